"""What several tests share stands in a module named for what it is, and not in one of them."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent


def test_no_test_module_is_imported_by_another() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{node.lineno} imports {node.module}"
        for path in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and ".test_" in (node.module or "")
    ]
    assert not found, "\n".join(found)
