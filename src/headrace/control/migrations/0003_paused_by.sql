-- Who holds a paused rollout; NULL when the document or a missing verdict does.
ALTER TABLE rollout ADD COLUMN paused_by TEXT;
