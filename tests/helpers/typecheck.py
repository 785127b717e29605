"""The type checker under which tests run the project's code: beartype, with an int accepted
where a float is asked."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
