package main

import (
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/bench"
)

func TestReport(t *testing.T) {
	p := plan{servers: []string{"martlet", "maildir", "mdbox"}, rounds: 9}
	var samples []sample
	for i, rates := range [][3]float64{{100, 50, 40}, {90, 60, 20}, {300, 70, 30}} {
		for j, s := range p.servers {
			samples = append(samples, sample{Server: s, Round: i, Load: "1.00", Result: bench.Result{Scenario: "lmtp", Connections: 10, Rate: rates[j]}},
				sample{Server: s, Round: i, Load: "1.00", Result: bench.Result{Scenario: "select", First: float64(4 - j), Median: float64(2 - j)}})
		}
	}
	var b strings.Builder
	if err := p.write(&b, samples); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"the median of 2 round(s)",
		"| LMTP, one account, 10 connections | per second | 100 | 60.0 | 30.0 | 1.67 |\n",
		"| select, first | ms | 4.00 | 3.00 | 2.00 | 0.50 |\n",
		"| select, median | ms | 2.00 | 1.00 | - | 0.50 |\n",
		"Martlet is behind in: select, first (0.50); select, median (0.50).",
		"Configuration of Dovecot, mdbox\n\n```\n# mail_fsync",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q\n%s", want, b.String())
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v", c.in, got)
		}
	}
}
