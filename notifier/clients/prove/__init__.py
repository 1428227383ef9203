"""The proof that nothing is lost: a load, and a ledger of every accepted send against everything that was received."""
