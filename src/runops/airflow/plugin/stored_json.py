"""How a field of a stored record is asked for in SQL: sqlite, PostgreSQL and MySQL each have words of their own.

A value that is no JSON object (an XCom backend's own reference, a text, what a hand has written) gives NULL everywhere;
none of these expressions can fail on it, in whatever order a database evaluates a condition.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Float, Numeric, Text, and_, case, cast, func, null, true, type_coerce


class StoredJson:
    """The fields of a JSON column.

    :param column: The column.
    :param dialect: The name of SQLAlchemy's dialect.
    :raises NotImplementedError: Airflow itself does not run on that database.
    """

    def __init__(self, column: Any, dialect: str) -> None:
        self._column = column
        words = {"sqlite": _Sqlite, "postgresql": _Postgresql, "mysql": _Mysql}
        if dialect not in words:
            raise NotImplementedError(f"no JSON expressions are known for {dialect}")
        self._read = words[dialect]

    @property
    def raw(self) -> ColumnElement[Any]:
        """The column as the database gives it: a text, or what its driver has made of it; no value makes it fail."""
        return type_coerce(self._column, Text)

    def is_object(self) -> ColumnElement[bool]:
        """Whether the value is a JSON object."""
        return self._read.is_object(self._column)

    @property
    def sorts_null_first(self) -> bool:
        """Whether the database has no word for NULL at the end."""
        return self._read is _Mysql

    def may_hold(self, word: str) -> ColumnElement[bool]:
        """Whether a word may stand in the value: cheaper than to take it apart, where there is such a way.

        :param word: As people write it.
        """
        # JSON writes all other signs in another way.
        plain = word.isascii() and word.isprintable() and not set(word) & set('"\\/')
        return self.raw.contains(word, autoescape=True) if plain and self._read is _Sqlite else true()

    def text(self, *path: str) -> ColumnElement[Any]:
        """A field as text; NULL where it is missing or null."""
        return self._read.text(self._column, path)

    def number(self, *path: str) -> ColumnElement[Any]:
        """A field as a number; NULL where it is none."""
        return self._read.number(self._column, path)


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(["$", *path])


class _Sqlite:
    """A text that may hold anything: a function on what is no JSON is an error, so it is checked in a CASE."""

    @staticmethod
    def _object(column: Any) -> ColumnElement[Any]:
        raw = type_coerce(column, Text)
        return case((func.json_valid(raw) == 1, raw), else_=null())

    @classmethod
    def is_object(cls, column: Any) -> ColumnElement[bool]:
        # Whoever takes it apart finds out whether it is whole.
        return func.substr(type_coerce(column, Text), 1, 1) == "{"

    @classmethod
    def text(cls, column: Any, path: tuple[str, ...]) -> ColumnElement[Any]:
        return cast(func.json_extract(cls._object(column), _dotted(path)), Text)

    @classmethod
    def number(cls, column: Any, path: tuple[str, ...]) -> ColumnElement[Any]:
        kind = func.json_type(cls._object(column), _dotted(path))
        return case(
            (kind.in_(("integer", "real")), func.json_extract(cls._object(column), _dotted(path))), else_=null()
        )


class _Postgresql:
    @staticmethod
    def is_object(column: Any) -> ColumnElement[bool]:
        return func.jsonb_typeof(column) == "object"

    @staticmethod
    def text(column: Any, path: tuple[str, ...]) -> ColumnElement[Any]:
        return func.jsonb_extract_path_text(column, *path, type_=Text)

    @staticmethod
    def number(column: Any, path: tuple[str, ...]) -> ColumnElement[Any]:
        kind = func.jsonb_typeof(func.jsonb_extract_path(column, *path))
        return case((kind == "number", cast(func.jsonb_extract_path_text(column, *path), Float)), else_=null())


class _Mysql:
    @staticmethod
    def is_object(column: Any) -> ColumnElement[bool]:
        return func.json_type(column) == "OBJECT"

    @staticmethod
    def text(column: Any, path: tuple[str, ...]) -> ColumnElement[Any]:
        found = func.json_extract(column, _dotted(path))
        return case((func.json_type(found) != "NULL", func.json_unquote(found)), else_=null())

    @staticmethod
    def number(column: Any, path: tuple[str, ...]) -> ColumnElement[Any]:
        found = func.json_extract(column, _dotted(path))
        numbers = and_(
            found.is_not(None), func.json_type(found).in_(("INTEGER", "DOUBLE", "DECIMAL", "UNSIGNED INTEGER"))
        )
        # Its CAST knows no FLOAT everywhere.
        return case((numbers, cast(found, Numeric(38, 9))), else_=null())
