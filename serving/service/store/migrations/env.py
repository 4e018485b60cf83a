"""What Alembic runs; the connection, within a transaction, comes from `serving.service.store.upgrade`."""

from alembic import context

# One transaction for all: Alembic would begin its own otherwise.
context.configure(connection=context.config.attributes["connection"], transaction_per_migration=False)
context.run_migrations()
