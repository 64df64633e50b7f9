package bench

// Result is one measurement. Times are in milliseconds, memory, disk and Bytes in
// bytes. With a restart hook, Median, P99, Rate, Operations and Seconds are of the
// warm requests alone; without one, First is among them.
//
// The server's processor time and memory are there if its process is known. They are
// those of the process and all that descend from it.
type Result struct {
	Scenario    string   `json:"scenario"`
	Connections int      `json:"connections"`
	Sizes       Sizes    `json:"sizes,omitempty"`
	TLS         Security `json:"tls,omitempty"`
	Mailbox     int      `json:"mailbox,omitempty"`    // messages in the mailbox
	Batch       int      `json:"batch,omitempty"`      // messages of each request, 0: one
	Recipients  int      `json:"recipients,omitempty"` // of each message, 0: one
	Operations  int      `json:"operations"`           // requests answered with success
	Failures    int      `json:"failures,omitempty"`   // requests answered otherwise
	Seconds     float64  `json:"seconds"`
	Rate        float64  `json:"rate"`     // operations per second
	First       float64  `json:"first_ms"` // very first request; after a restart if ColdRuns > 0
	Median      float64  `json:"median_ms"`
	P99         float64  `json:"p99_ms"`
	Bytes       int64    `json:"bytes"` // sent or received, whichever the scenario is about

	ColdRuns int     `json:"cold_runs,omitempty"`   // requests made directly after a restart
	Cold     float64 `json:"cold_ms,omitempty"`     // median of them
	ColdCPU  float64 `json:"cold_cpu_ms,omitempty"` // server's processor time for one of them

	Stop float64 `json:"stop_ms,omitempty"` // median of the stops, which the other times of restart leave out

	CPU        float64 `json:"cpu_ms,omitempty"`      // server's processor time, user and system, for one operation
	CPUPercent float64 `json:"cpu_percent,omitempty"` // of one processor

	Memory     int64 `json:"memory,omitempty"`      // PSS of the whole server at the end
	MemoryPeak int64 `json:"memory_peak,omitempty"` // highest PSS that was seen during the scenario
	RSS        int64 `json:"rss,omitempty"`         // added by the connections, all processes
	PSS        int64 `json:"pss,omitempty"`         // likewise, pages in common counted once
	Base       int64 `json:"base,omitempty"`        // PSS before

	Disk        int64   `json:"disk,omitempty"`          // blocks that came to be used, in bytes
	DiskPerByte float64 `json:"disk_per_byte,omitempty"` // Disk by Bytes

	RateMin    float64    `json:"rate_min,omitempty"`    // of the intervals
	RateMedian float64    `json:"rate_median,omitempty"` // of the intervals
	RateMax    float64    `json:"rate_max,omitempty"`    // of the intervals
	Intervals  []Interval `json:"intervals,omitempty"`   // of grow, in order

	Failure string `json:"failure,omitempty"` // first reply that was not success
}

// Interval is a piece of a run of grow. Stored and Messages count from its beginning.
type Interval struct {
	Seconds  float64 `json:"seconds"` // when it ended
	Stored   int64   `json:"stored"`  // bytes delivered until then
	Messages int     `json:"messages"`
	Rate     float64 `json:"rate"` // deliveries per second in this interval
}
