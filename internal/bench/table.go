package bench

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

// Table writes results as a table for people, and below it what has no column.
func Table(w io.Writer, results []Result) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "scenario\tconns\tops\tops/s\tcold ms\tfirst ms\tmedian ms\tp99 ms\tCPU ms/op\tCPU %\tpeak MB\tmoved MB\t")
	for _, r := range results {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", r.label(), r.Connections, r.Operations, cell(r.Rate, 1),
			cell(r.Cold, 2), cell(r.First, 2), cell(r.Median, 2), cell(r.P99, 2), cell(r.CPU, 3), cell(r.CPUPercent, 1),
			cell(float64(r.MemoryPeak)/1e6, 1), cell(float64(r.Bytes)/1e6, 1))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		r.remarks(w)
	}
	return nil
}

// cell writes a figure, or a dash for one that is not there.
func cell(v float64, decimals int) string {
	if v == 0 {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// remarks writes what is known of one result besides.
func (r Result) remarks(w io.Writer) {
	if r.PSS != 0 && r.Connections > 0 {
		fmt.Fprintf(w, "%s: %.1f MB for %d connections, %.1f KB each (resident %.1f MB)\n", r.label(),
			float64(r.PSS)/1e6, r.Connections, float64(r.PSS)/1e3/float64(r.Connections), float64(r.RSS)/1e6)
	}
	if r.DiskPerByte != 0 {
		fmt.Fprintf(w, "%s: %.1f MB on disk for %.1f MB of mail, %.3f bytes for each byte\n", r.label(), float64(r.Disk)/1e6,
			float64(r.Bytes)/1e6, r.DiskPerByte)
	}
	if len(r.Intervals) > 0 {
		fmt.Fprintf(w, "%s: per second in %d intervals %.1f at least, %.1f in the middle, %.1f at most\n", r.label(), len(r.Intervals),
			r.RateMin, r.RateMedian, r.RateMax)
	}
	if r.Stop > 0 {
		fmt.Fprintf(w, "%s: the stop before it took %.0f ms\n", r.label(), r.Stop)
	}
	switch {
	case r.Failures > 0:
		fmt.Fprintf(w, "%s with %d connections: %d refused, first: %s\n", r.label(), r.Connections, r.Failures, r.Failure)
	case r.Failure != "":
		fmt.Fprintf(w, "%s was left out: %s\n", r.Scenario, r.Failure)
	}
}

func (r Result) label() string {
	name := r.Scenario
	if r.TLS != Plain {
		name += " by TLS"
	}
	switch {
	case r.Recipients > 0:
		return fmt.Sprintf("%s (%d recipients)", name, r.Recipients)
	case r.Batch > 0:
		name = fmt.Sprintf("%s of %d", name, r.Batch)
	}
	if r.Sizes != Small && r.Sizes != "" || r.Scenario == "disk" {
		return fmt.Sprintf("%s (%s)", name, r.Sizes)
	}
	return name
}
