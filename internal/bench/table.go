package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Table writes results as a table for people.
func Table(w io.Writer, results []Result) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "scenario\tconns\tops\tops/s\tmedian ms\tp99 ms\tMB\t")
	for _, r := range results {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%.1f\t%.2f\t%.2f\t%.1f\t\n", r.label(), r.Connections, r.Operations, r.Rate,
			r.Median, r.P99, float64(r.Bytes)/1e6)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.PSS != 0 && r.Connections > 0 {
			fmt.Fprintf(w, "%s: %.1f MB for %d connections, %.1f KB each (resident %.1f MB)\n", r.Scenario,
				float64(r.PSS)/1e6, r.Connections, float64(r.PSS)/1e3/float64(r.Connections), float64(r.RSS)/1e6)
		}
		if r.Failures > 0 {
			fmt.Fprintf(w, "%s with %d connections: %d refused, first: %s\n", r.Scenario, r.Connections, r.Failures, r.Failure)
		}
	}
	return nil
}

func (r Result) label() string {
	switch {
	case r.Sizes == Mixed:
		return r.Scenario + " (mix)"
	case r.Batch > 0:
		return fmt.Sprintf("%s of %d", r.Scenario, r.Batch)
	}
	return r.Scenario
}
