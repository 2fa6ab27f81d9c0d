"""Flags of delimited files, which the experiments on tables and on texts share."""

import dataclasses
from typing import Any

from zoo.config import setting
from zoo.data.datasets import delimited_format
from zoo.data.datasets.delimited_format import DelimitedFormat


@dataclasses.dataclass(frozen=True)
class DelimitedFlags:
    """Fields for the config of an experiment that reads delimited files: `class MyConfig(DelimitedFlags, Config)`."""

    encoding: str = setting(delimited_format.UTF8, delimited_format.HELP["encoding"], before=delimited_format.UTF8)
    delimiter: str = setting("", delimited_format.HELP["delimiter"], before="")
    no_header: bool = setting(False, delimited_format.HELP["no_header"], before=False)
    columns: str = setting("", delimited_format.HELP["columns"], before="")

    def file_format(self) -> DelimitedFormat:
        """What the flags say.

        Raises:
            BadInput: a flag has a value that cannot be.
        """
        return delimited_format.of_flags(self.encoding, self.delimiter, self.no_header, self.columns)

    def about_files(self) -> dict[str, Any]:
        """What model.json says of the files, for predictions from others like them."""
        said = self.file_format().as_json()
        return {"file_format": said} if said else {}
