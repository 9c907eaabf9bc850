-- What a gate comes to when its time is over and nobody has decided: approved, or expired.
ALTER TABLE gate ADD COLUMN approved_on_expiry INTEGER NOT NULL DEFAULT 0;
