package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/bench"
	"github.com/martlet-mail/martlet/test/peers/cyrus"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
	"github.com/martlet-mail/martlet/test/peers/postfix"
)

// sample is one result of one server in one round, or a leg that failed.
type sample struct {
	Server string `json:"server"`
	Round  int    `json:"round"`
	Spread bool   `json:"spread,omitempty"` // deliveries went to ten accounts
	Load   string `json:"load"`             // load average of the machine before the run
	Leg    string `json:"leg,omitempty"`    // what was run, of a failure
	Error  string `json:"error,omitempty"`  // why it failed
	bench.Result
}

// about says what a raw file was taken with and on.
type about struct {
	When     time.Time `json:"when"`
	Machine  string    `json:"machine"`
	Versions string    `json:"versions"`
	Command  string    `json:"command"`
	Rounds   int       `json:"rounds"`
	Seconds  float64   `json:"seconds"` // of a delivery run
	Messages int       `json:"messages"`
	Repeat   int       `json:"repeat"`
	Drop     bool      `json:"drop_caches,omitempty"`
	Servers  []string  `json:"servers"`
}

// heading is the first line of a raw file.
type heading struct {
	About *about `json:"about"`
}

// results is what raw files hold.
type results struct {
	about   []about // of each file
	samples []sample
}

// roundsOfFile sets the rounds of one raw file apart from those of another.
const roundsOfFile = 1000

func readRaw(paths []string) (results, error) {
	var r results
	for i, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return r, err
		}
		if err := r.read(b, i); err != nil {
			return r, fmt.Errorf("%s: %w", path, err)
		}
	}
	return r, nil
}

// read adds the file with the given number. A last line that was cut off is left out.
func (r *results) read(b []byte, file int) error {
	for line := range bytes.Lines(b) {
		var rec struct {
			heading
			sample
		}
		if err := json.Unmarshal(line, &rec); err != nil {
			if !bytes.HasSuffix(line, []byte("\n")) {
				return nil
			}
			return err
		}
		if rec.About != nil {
			r.about = append(r.about, *rec.About)
			continue
		}
		rec.Round += file * roundsOfFile
		r.samples = append(r.samples, rec.sample)
	}
	return nil
}

// servers returns the names of the servers in the order of the first file.
func (r results) servers() []string {
	var out []string
	add := func(s string) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for _, a := range r.about {
		for _, s := range a.Servers {
			add(s)
		}
	}
	for _, s := range r.samples {
		add(s.Server)
	}
	return out
}

// rounds returns the rounds in which anything was measured.
func (r results) rounds() []int {
	var out []int
	for _, s := range r.samples {
		if !slices.Contains(out, s.Round) {
			out = append(out, s.Round)
		}
	}
	return out
}

// failures returns the legs that failed, or were refused more often than not.
func (r results) failures() []sample {
	var out []sample
	for _, s := range r.samples {
		if s.Error == "" && s.Failures > s.Operations {
			s.Leg, s.Error = s.Scenario, "most were refused: "+s.Failure
		}
		if s.Error != "" {
			out = append(out, s)
		}
	}
	return out
}

// load returns the lowest and the highest load average before a run.
func (r results) load() (low, high float64) {
	for i, s := range r.samples {
		load, _ := strconv.ParseFloat(s.Load, 64)
		if i == 0 || load < low {
			low = load
		}
		high = max(high, load)
	}
	return low, high
}

// writer writes the raw file as results come.
type writer []io.Writer

func (w writer) put(what any) {
	line, err := json.Marshal(what)
	if err != nil {
		line = fmt.Appendf(nil, `{"error":%q}`, err.Error()) // a figure that is no number
	}
	for _, to := range w {
		fmt.Fprintf(to, "%s\n", line)
	}
}

func (p plan) about() about {
	versions := []string{runtime.Version()}
	for _, v := range [][2]string{{"Dovecot", dovecot.Version()}, {"Cyrus", cyrus.Version()}, {"Postfix", postfix.Version()}} {
		if v[1] != "" {
			versions = append(versions, v[0]+" "+v[1])
		}
	}
	command := "make bench-peers"
	if p.growth {
		command = "make bench-growth"
	}
	return about{When: time.Now().UTC().Truncate(time.Second), Machine: machine(), Versions: strings.Join(versions, "; "),
		Command: command, Rounds: p.rounds, Seconds: p.duration.Seconds(), Messages: p.messages, Repeat: p.repeat,
		Drop: p.drop, Servers: p.servers}
}

// machine says what the figures are taken on.
func machine() string {
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.Trim(rest, " \t:\n")
				break
			}
		}
	}
	memory := ""
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
