package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// pageFile is what WritePage writes into; rowsFile has the rows, so that one fault can be run
// again.
const (
	pageFile = "docs/cluster-faults.md"
	rowsFile = "bin/cluster-faults.json"
)

// WritePage puts a row into the table, which stands between marks.
func WritePage(r Row) error {
	path := filepath.Join(root(), pageFile)
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	rows := map[string]string{}
	kept := filepath.Join(root(), rowsFile)
	if text, err := os.ReadFile(kept); err == nil {
		if err := json.Unmarshal(text, &rows); err != nil {
			return fmt.Errorf("%s: %w", kept, err)
		}
	}
	rows[r.Name] = r.line()
	text, err := json.MarshalIndent(rows, "", "\t")
	if err == nil {
		err = os.WriteFile(kept, text, 0o644)
	}
	if err != nil {
		return err
	}
	const open, end = "<!-- table -->\n", "<!-- /table -->"
	before, rest, ok := strings.Cut(string(page), open)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return errors.New(pageFile + " has no place for its table")
	}
	return os.WriteFile(path, []byte(before+open+table(rows)+end+after), 0o644)
}

func table(rows map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s.\n\n", time.Now().UTC().Format("2006-01-02"), machine())
	b.WriteString("| fault | held | gap | taken | 4xx | no answer | 5xx | sessions held | ended | lost | doubled | untrue | whole after |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, f := range append(Faults(), Control()) {
		b.WriteString(rows[f.Name])
	}
	return b.String()
}

// line is the row of the table.
func (r Row) line() string {
	ended := fmt.Sprint(len(r.Drops))
	if r.Ended > 0 {
		ended = fmt.Sprintf("%d (%d with their node)", len(r.Drops), r.Ended)
	}
	whole := seconds(r.Whole)
	if r.Err != nil {
		whole = "not: " + r.Err.Error()
	}
	names := map[string]bool{}
	for _, d := range r.Drops {
		names[d.name] = true
	}
	return fmt.Sprintf("| %s | %s | %s | %d | %d | %d | %d | %d | %s | %d | %d | %d | %s |\n", r.Name, seconds(r.Held), seconds(r.Gap), r.Acked, r.Later, r.Cut, len(r.Refused),
		r.Sessions-len(names), ended, len(r.Lost), len(r.Doubled), len(r.Untrue)+len(r.Late)+len(r.Strange), whole)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// machine says what it was measured on.
func machine() string {
	model, memory := runtime.GOARCH, ""
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(text), "model name"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			model = strings.TrimSpace(strings.TrimLeft(line, "\t :"))
		}
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int
		fmt.Sscanf(string(text), "MemTotal: %d kB", &kb)
		memory = fmt.Sprintf(", %d GB of memory", (kb+1<<19)>>20)
	}
	return fmt.Sprintf("all on one machine with %d processors (%s)%s", runtime.NumCPU(), model, memory)
}
