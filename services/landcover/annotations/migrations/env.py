"""What Alembic runs: the migrations, on the connection and in the transaction that `migration.migrate` opened."""

from alembic import context

from landcover.annotations.migration import VERSION_TABLE
from landcover.annotations.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
