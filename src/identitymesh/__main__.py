"""Entry points of the two programs: what needs no installation is answered before anything else is imported."""


def main() -> None:
    """``identitymesh``."""
    from identitymesh.cli.main import answer_at_once

    if (code := answer_at_once()) is not None:
        raise SystemExit(code)
    from identitymesh.composition import main as compose_and_run

    compose_and_run()


def secretscli() -> None:
    """``secretscli``."""
    from identitymesh.composition import secretscli as compose_and_run

    compose_and_run()


if __name__ == "__main__":
    main()
