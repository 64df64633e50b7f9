package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
)

// The report has what was measured: medians over rounds, ratios of single rounds, and what
// failed.
func TestReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	null := os.Stderr
	os.Stderr = nil
	write(f, heading{&about{Machine: "machine", Rounds: 3, Seconds: 2, Messages: 1000}})
	for round, rates := range [][2]float64{{1000, 500}, {2000, 800}, {4000, 2400}} {
		for i, name := range []string{"pebble", "postgres"} {
			s := sample{Part: "delivery", System: name, Round: round + 1, Case: "one account", Cores: map[string]float64{"clients": 0.25}}
			s.Scenario, s.Connections, s.Rate = "lmtp", 50, rates[i]
			write(f, s)
		}
	}
	both := sample{Part: "nodes", System: "two", Round: 1, Case: "one account, both"}
	both.Scenario, both.Connections, both.Rate = "lmtp", 50, 300
	one := both
	one.Case, one.Rate = "one account, one node", 200
	write(f, one)
	write(f, both)
	write(f, sample{Part: "trips", System: "two", Case: "delivery", Value: 1.5, Cores: map[string]float64{"commit": 1.5}})
	write(f, sample{Part: "cold", System: "cyrus", Case: "filling", Error: "broken\nand more"})
	f.Close()
	os.Stderr = null
	r, err := readRaw(path)
	if err != nil {
		t.Fatal(err)
	}
	text := report(r)
	for _, want := range []string{
		"| one account, 50 connections | 2000 | 800 | 0.50 | 0.40 to 0.60 |",
		"| deliveries, one account | 200 | 300 | 1.50 | 1.50 to 1.50 |",
		"| deliveries, one account: clients | 0.25 | 0.25 |",
		"| delivery | 0 | 1.50 | commit 1.50 |",
		"- Cyrus, cold, filling: broken\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "and more") {
		t.Error("a whole log is in the report")
	}
}

// The configurations of nodes are ones that the program takes.
func TestConfigurations(t *testing.T) {
	for _, url := range []string{"", "postgres://martlet@127.0.0.1:5432/martlet?sslmode=disable"} {
		if _, err := conf.Parse("node", []byte(configuration("node1", "/tmp/x", url, "24", "143", "80"))); err != nil {
			t.Error(url, err)
		}
	}
}

// A stopwatch says who used the processors between its first reading and its last.
func TestStopwatch(t *testing.T) {
	w := &stopwatch{}
	w.tick("x", 0, 10)
	w.tick("x", 1, 10)
	for began := time.Now(); time.Since(began) < 30*time.Millisecond; {
	}
	w.tick("x", 6, 10)
	if c := w.cores(); c["clients"] <= 0 || c["clients"] > 4 {
		t.Errorf("%v", c)
	}
	if (&stopwatch{}).cores() != nil {
		t.Error("something was read of nothing")
	}
}
