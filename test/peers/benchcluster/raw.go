package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/bench"
	"github.com/martlet-mail/martlet/test/peers/cyrus"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
)

// sample is one result, or a leg that failed.
type sample struct {
	Part   string             `json:"part"`
	System string             `json:"system"`
	Round  int                `json:"round"`
	Case   string             `json:"case"`
	Cores  map[string]float64 `json:"cores,omitempty"` // processors that each used, in the mean
	Value  float64            `json:"value,omitempty"` // of what no scenario of bench measures
	Load   string             `json:"load,omitempty"`  // load average of the machine before
	Error  string             `json:"error,omitempty"`
	bench.Result
}

// about says what a raw file was taken with and on.
type about struct {
	When     time.Time `json:"when"`
	Machine  string    `json:"machine"`
	Versions string    `json:"versions"`
	Rounds   int       `json:"rounds"`
	Seconds  float64   `json:"seconds"`
	Messages int       `json:"messages"`
}

// heading is the first line of a raw file.
type heading struct {
	About *about `json:"about"`
}

// results is what a raw file holds.
type results struct {
	about   about
	samples []sample
}

func readRaw(path string) (results, error) {
	var r results
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	for line := range bytes.Lines(b) {
		var rec struct {
			heading
			sample
		}
		if err := json.Unmarshal(line, &rec); err != nil {
			if !bytes.HasSuffix(line, []byte("\n")) {
				break // cut off
			}
			return r, fmt.Errorf("%s: %w", path, err)
		}
		if rec.About != nil {
			r.about = *rec.About
			continue
		}
		r.samples = append(r.samples, rec.sample)
	}
	return r, nil
}

func write(to io.Writer, what any) {
	line, err := json.Marshal(what)
	if err != nil {
		line = fmt.Appendf(nil, `{"error":%q}`, err.Error()) // a figure that is no number
	}
	for _, w := range []io.Writer{to, os.Stderr} {
		fmt.Fprintf(w, "%s\n", line)
	}
}

func (p plan) about() *about {
	versions := []string{runtime.Version(), "PostgreSQL " + packaged("postgresql-15")}
	for _, v := range [][2]string{{"Dovecot", dovecot.Version()}, {"Cyrus", cyrus.Version()}} {
		if v[1] != "" {
			versions = append(versions, v[0]+" "+v[1])
		}
	}
	return &about{When: time.Now().UTC().Truncate(time.Second), Machine: machine(), Versions: strings.Join(versions, "; "),
		Rounds: p.rounds, Seconds: p.duration.Seconds(), Messages: p.messages}
}

func packaged(name string) string {
	out, _ := exec.Command("dpkg-query", "-W", "-f", "${Version}", name).Output()
	return string(out)
}

// machine says what the figures are taken on.
func machine() string {
	model, memory := "unknown processor", ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.Trim(rest, " \t:\n")
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int
		fmt.Sscanf(string(b), "MemTotal: %d kB", &kb)
		memory = fmt.Sprintf(", %d GB of memory", (kb+1<<19)>>20)
	}
	kernel, _ := exec.Command("uname", "-sr").Output()
	return fmt.Sprintf("%s, %d cores%s, %s", model, runtime.NumCPU(), memory, strings.TrimSpace(string(kernel)))
}

func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

// busy is how long the machine's processors have worked, all together.
func busy() time.Duration {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := bytes.Cut(b, []byte("\n"))
	fields := strings.Fields(string(line))
	var ticks int64
	for i, f := range fields {
		if i >= 1 && i <= 8 && i != 4 && i != 5 { // neither idle nor waiting for a disk
			n, _ := strconv.ParseInt(f, 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
