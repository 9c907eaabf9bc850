-- What somebody did, without reading the whole log.
CREATE INDEX event_by_actor ON event (actor, seq);
