package main

import "context"

// objectsFacts are what a look at an object store tells. Its JSON is public interface.
type objectsFacts struct {
	Endpoint  string  `json:"endpoint"`
	Bucket    string  `json:"bucket"`
	Reachable bool    `json:"reachable"`
	LatencyMS float64 `json:"latency_ms,omitempty"`
	Problem   string  `json:"problem,omitempty"`
}

// lookAtObjects looks at the object store; nil if there is none.
func (h *house) lookAtObjects(context.Context) *objectsFacts { return nil }

// engineCounters are what the engine has counted.
func (h *house) engineCounters() []engineCounter { return nil }
