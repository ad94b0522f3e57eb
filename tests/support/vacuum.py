"""Lets the server start while items wait in its queue, every time.

InvokeAI 6.14.2 vacuums its database at the end of its start, on the connection that the worker uses too and without
the lock that guards it. Where an item waits from before, the worker takes it at that very moment: now and then SQLite
refuses ("cannot VACUUM from within a transaction"), and the process ends with status 3. A person starts it again; a
test would be told that its server is broken.
"""
# mypy: ignore-errors


def take_turns():
    """Call before the server starts: the vacuum waits for its turn, as all other use of the database does."""
    from invokeai.app.services.shared.sqlite.sqlite_database import SqliteDatabase

    vacuum = SqliteDatabase.clean

    def clean(self):
        with self._lock:
            vacuum(self)

    SqliteDatabase.clean = clean
