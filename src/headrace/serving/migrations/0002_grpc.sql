-- Where a revision answers the V2 protocol over gRPC.
ALTER TABLE revision ADD COLUMN grpc_port INTEGER;
