package postgres

import "github.com/martlet-mail/martlet/internal/engine"

// blobTables are the tables of blobs, blobTuning is what PostgreSQL alone has for them.
var blobTables, blobTuning []string

// Blobs returns the blob store.
func (e *Engine) Blobs() engine.Blobs { return nil }
