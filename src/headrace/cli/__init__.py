"""One command per thing a person does."""
