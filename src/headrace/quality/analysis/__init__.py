"""Judge a canary against the stable revision from windows of counts. Pure: no time, no Envoy, no database."""
