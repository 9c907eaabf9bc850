-- How a run is to be done (RunOptions), and artifacts that were given to the pipeline itself.
ALTER TABLE run ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
ALTER TABLE run ADD COLUMN artifacts TEXT NOT NULL DEFAULT '{}';
