package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// pageFile is what WritePage writes into. Rows of other runs stay, so that one fault can be run
// again.
const pageFile = "docs/cluster-faults.md"

// Marks between which the table stands.
const (
	openTable = "<!-- table -->\n"
	endTable  = "<!-- /table -->"
)

// WritePage puts a row into the table.
func WritePage(r Row) error {
	path := filepath.Join(root(), pageFile)
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, is, after, err := partsOf(string(page))
	if err != nil {
		return err
	}
	rows := rowsOf(is)
	rows[r.Name] = r.line()
	head := fmt.Sprintf("%s, %s.", time.Now().UTC().Format("2006-01-02"), machine())
	return os.WriteFile(path, []byte(before+openTable+table(head, rows)+endTable+after), 0o644)
}

// partsOf returns the table of a page, and what stands before and after it.
func partsOf(page string) (before, table, after string, err error) {
	before, rest, ok := strings.Cut(page, openTable)
	table, after, ok2 := strings.Cut(rest, endTable)
	if !ok || !ok2 {
		return "", "", "", errors.New(pageFile + " has no place for its table")
	}
	return before, table, after, nil
}

// rowsOf returns the rows of a table by their faults, as line made them.
func rowsOf(table string) map[string]string {
	rows := map[string]string{}
	for row := range strings.Lines(table) {
		cells := strings.Split(row, " | ")
		name, ok := strings.CutPrefix(cells[0], "| ")
		if !ok || name == "fault" {
			continue
		}
		if last := len(cells) - 1; strings.HasPrefix(cells[last], "`") {
			row = strings.Join(cells[:last], " | ") + " |\n"
		}
		rows[name] = row
	}
	return rows
}

// table is a heading, the rows, and how each is had again.
func table(head string, rows map[string]string) string {
	var b strings.Builder
	b.WriteString(head + "\n\n")
	b.WriteString("| fault | held | gap | taken | 4xx | no answer | 5xx | sessions held | ended | lost | doubled | untrue | whole after | command |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|\n")
	for _, f := range append(Faults(), Control()) {
		if row, ok := rows[f.Name]; ok {
			fmt.Fprintf(&b, "%s `%s` |\n", strings.TrimSuffix(row, "\n"), f.command())
		}
	}
	return b.String()
}

// command runs this fault and no other.
func (f Fault) command() string {
	plain := strings.Map(func(c rune) rune {
		if strings.ContainsRune(`*+?()[]{}^$\'.`, c) {
			return '.' // also for the shell
		}
		return c
	}, f.Name)
	return "MARTLET_FAULTS='^" + plain + "$' make test-cluster"
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
