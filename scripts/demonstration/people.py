"""An HR database of made-up people: plausible, varied, and the same in every run."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import astuple, dataclass
from itertools import product
from pathlib import Path
from typing import Final

PEOPLE: Final = 1000
FIRST_NUMBER: Final = 100_001
_SEED: Final = 20_260_301

GIVEN: Final = """
Ada Adaeze Agnieszka Aisha Ana Anaïs Anders Anh Aoife Ayşe Béatrice Bjørn Blessing Carlos Chiara Chloé Dilnoza Đorđe
Eirik Elif Emeka Émile Fátima Femke François Freya Giulia Grace Hana Haruki Héloïse Ifeoma Ingrid Iñaki Ioana Ivana
Jakub Jasmin João Jürgen Kateřina Kofi Krzysztof Lærke Leïla Linh Łukasz Maëlle Małgorzata Mateus Mei Mehmet Moana
Niamh Nguyệt Nikos Noor Olúwa Óscar Paweł Priya Quentin Rafaël Ravi Renée Ruth Saoirse Sérgio Siobhán Søren Sunita
Tamás Thandiwe Tomáš Uğur Úna Vanessa Václav Wanjiru Xavier Ximena Yara Yusuf Żaneta Zoë
""".split()  # noqa: SIM905 - a list of literals would be five times as long and no clearer
LAST: Final = """
Abara Åkesson Almeida Álvarez Andersen Balogun Bączek Beauchêne Bianchi Björk Brănescu Çelik Černý Chowdhury Conceição
D'Angelo Dąbrowska Diallo Đurić Dvořák Eriksen Fernández Fischer García Geißler Gonçalves Grünwald Håkansson Hernández
Horváth Ibáñez Ionescu Jovanović Kaya Kovačević Krüger Kowalczyk Lefèvre Lindström Łuczak Macháček Magalhães Müller
Mwangi Nakamura Nguyễn Novák Núñez O'Brien Öztürk Ødegård Okafor Papadopoulos Patel Peña Popović Quintero Rasmussen
Rodríguez Rosén Sánchez Sato Schröder Șerban Silva Šimek Smith Suárez Szabó Taylor Tóth Ueda Varga Weiß Włodarczyk
Yıldız Zając Žižek
""".split()  # noqa: RUF001, SIM905 - as above; the dotless i is meant
# How a few write their own name; the display name is then this one.
NATIVE: Final = {
    "Haruki Nakamura": "中村 春樹",
    "Mei Sato": "佐藤 芽衣",
    "Nikos Papadopoulos": "Νίκος Παπαδόπουλος",
    "Ivana Jovanović": "Ивана Јовановић",
    "Yusuf Diallo": "يوسف ديالو",
    "Hana Ueda": "上田 花",
}
DEPARTMENTS: Final = ("Engineering", "Sales", "Finance", "People", "Legal", "Support", "Production", "Logistics")
TITLES: Final = ("Specialist", "Engineer", "Analyst", "Manager", "Assistant", "Team Lead")


@dataclass(frozen=True, slots=True)
class Employee:
    """One row of HR."""

    employee_id: str
    first_name: str
    last_name: str
    native_name: str | None
    department: str
    title: str
    phone: str | None
    status: str
    updated_at: str


def made_up_people(number: int = PEOPLE) -> list[Employee]:
    """That many people, no two with the same name, in the order in which they were hired."""
    chance = random.Random(_SEED)  # noqa: S311 - made-up people, not keys
    native = [(given, last) for given, last in product(GIVEN, LAST) if f"{given} {last}" in NATIVE]
    others = [pair for pair in product(GIVEN, LAST) if pair not in native]
    pairs = chance.sample(others, number - len(native))
    for place, pair in enumerate(native):
        pairs.insert(2 + 100 * place, pair)
    return [
        Employee(
            employee_id=str(FIRST_NUMBER + index),
            first_name=given,
            last_name=last,
            native_name=NATIVE.get(f"{given} {last}"),
            department=chance.choice(DEPARTMENTS),
            title=chance.choice(TITLES),
            phone=f"+49 30 555 {chance.randint(1000, 9999)}" if chance.random() < 0.8 else None,
            status="on leave" if chance.random() < 0.03 else "active",
            updated_at=f"2026-03-01T08:{index % 60:02d}:00Z",
        )
        for index, (given, last) in enumerate(pairs)
    ]


def make_hr(path: Path) -> None:
    """Make the database with everybody in it."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "create table employees (employee_id text primary key, first_name text not null, last_name text not null,"
            " native_name text, department text not null, title text not null, phone text, status text not null,"
            " updated_at text not null)"
        )
        connection.executemany("insert into employees values (?,?,?,?,?,?,?,?,?)", map(astuple, made_up_people()))


# What happens at HR between two runs. People know it as SQL, so it is shown as SQL.
CHANGES: Final = (
    "update employees set last_name = 'Lovelace' where employee_id = '100002'",
    "update employees set department = 'Legal', title = 'Manager' where employee_id = '100003'",
    "update employees set status = 'on leave' where employee_id = '100004'",
    "delete from employees where employee_id = '100005'",
)


def change_hr(path: Path) -> None:
    """A day at HR: somebody marries, somebody moves, somebody goes on leave, somebody leaves."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in CHANGES:
            connection.execute(statement)
        connection.execute("update employees set updated_at = '2026-03-02T09:00:00Z' where employee_id < '100005'")
