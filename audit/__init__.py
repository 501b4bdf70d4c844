"""The append-only log of every use of a key and every act of a person."""
