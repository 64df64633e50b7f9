package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fixture is a raw file of two rounds with three servers, and one leg that failed.
const fixture = `{"about":{"when":"2026-01-02T03:04:05Z","machine":"a machine","versions":"go1","command":"make bench-peers","rounds":2,"seconds":2,"messages":100000,"servers":["martlet","maildir","cyrus"]}}
{"server":"martlet","round":1,"load":"1.00","scenario":"lmtp","connections":10,"rate":100,"cpu_ms":0.5,"memory_peak":80000000}
{"server":"maildir","round":1,"load":"1.50","scenario":"lmtp","connections":10,"rate":50,"cpu_ms":1.5}
{"server":"cyrus","round":1,"load":"0.50","scenario":"lmtp","connections":10,"rate":20}
{"server":"martlet","round":2,"load":"1.00","scenario":"lmtp","connections":10,"rate":300}
{"server":"maildir","round":2,"load":"1.00","scenario":"lmtp","connections":10,"rate":70}
{"server":"cyrus","round":2,"load":"1.00","scenario":"lmtp","connections":10,"rate":75}
{"server":"martlet","round":1,"load":"1.00","scenario":"select","connections":1,"mailbox":100000,"first_ms":4,"cold_ms":6,"cold_runs":1,"median_ms":2}
{"server":"maildir","round":1,"load":"1.00","scenario":"select","connections":1,"mailbox":100000,"first_ms":4,"cold_ms":3,"cold_runs":1,"median_ms":40}
{"server":"cyrus","round":1,"load":"1.00","scenario":"select","connections":1,"mailbox":100000,"first_ms":4,"cold_ms":30,"cold_runs":1,"median_ms":1}
{"server":"martlet","round":1,"load":"1.00","scenario":"announce","connections":1,"median_ms":0,"p99_ms":1}
{"server":"cyrus","round":1,"load":"1.00","scenario":"announce","connections":1,"median_ms":30,"p99_ms":40}
{"server":"martlet","round":1,"load":"1.00","scenario":"idle-memory","connections":1000,"base":30000000,"pss":10240000}
{"server":"cyrus","round":1,"load":"1.00","scenario":"handshake-resumed","connections":1,"operations":1,"failures":9,"failure":"not resumed","rate":1}
{"server":"martlet","round":1,"load":"1.00","scenario":"handshake-resumed","connections":1,"operations":900,"failures":1,"rate":900}
{"server":"cyrus","round":1,"load":"1.00","leg":"idle-memory","error":"no\nmore"}
`

func fixed(t *testing.T, text string) results {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := readRaw([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func holds(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestPeersReport(t *testing.T) {
	saved := boundsText
	defer func() { boundsText = saved }()
	boundsText = "# Title\n\n## SELECT\n\nThe *disk*\nturns.\n\n## LMTP, one account, 10 connections\n\nReached long ago.\n"
	got := peersReport(fixed(t, fixture))
	holds(t, got.text,
		"of 2 round(s)", "lasts 2 s; the large mailbox has 100000 messages",
		// The best peer of each round differs: 100/50 and 300/75.
		"| LMTP, one account, 10 connections | per second | 200 | 60.0 | 47.5 | 3.00 | 2.00 to 4.00 |\n",
		"| SELECT, cold | ms | 6.00 | 3.00 | 30.0 | **0.50** | 0.50 to 0.50 |\n",
		"| SELECT, warm | ms | 2.00 | 40.0 | 1.00 | **0.50** | 0.50 to 0.50 |\n",
		"| delivery to EXISTS in IDLE, median | ms | 0.00 | 30.0 | > 1000 | > 1000 to > 1000 |\n",
		"| memory of each connection in IDLE, net | KiB | 10.0 | - |",
		"Of 5 lines, 3 are at 2.0 or above, 0 between 1 and 2.0, and 2 below 1.\n",
		"- **SELECT, cold**: 0.50 (0.50 to 0.50), beside Dovecot, maildir. The *disk* turns.\n",
		"beside Cyrus. The *disk* turns.\n",
		"- Cyrus, idle-memory: no\n", "- Cyrus, handshake-resumed: most were refused: not resumed\n",
		"| sign-in over TLS, resumed, 1 connection | per second | 900 | - |",
		"a machine; go1. 2026-01-02.", "single runs: 0.5 to 1.5", "```\nmake bench-peers\n```",
		"### Dovecot, maildir\n\n```\n# mail_fsync", "### Cyrus\n\n```\n# imapd.conf\n",
	)
	if left := unexplained(rows(fixed(t, fixture).samples), []string{"martlet", "maildir", "cyrus"}); len(left) != 0 {
		t.Errorf("%q are explained", left)
	}
	boundsText = ""
	if left := unexplained(rows(fixed(t, fixture).samples), []string{"martlet", "maildir", "cyrus"}); len(left) != 2 {
		t.Errorf("%q are not explained, and two are to be", left)
	}
	if strings.Contains(got.text, "Reached long ago") {
		t.Error("a bound is named that does not bound")
	}
	chart := got.pictures["bench-ratios.svg"]
	wellFormed(t, chart)
	if n := strings.Count(chart, "<rect "); n != 5 {
		t.Errorf("the chart has %d bars for 5 lines", n)
	}
	if good, bad := strings.Count(chart, `class="good"`), strings.Count(chart, `class="bad"`); good != 3 || bad != 2 {
		t.Errorf("%d good and %d bad bars", good, bad)
	}
}

func TestReportsOfSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for i, rate := range []string{"10", "30"} {
		text := `{"server":"martlet","round":1,"load":"1","scenario":"lmtp","connections":1,"rate":60}
{"server":"mdbox","round":1,"load":"1","scenario":"lmtp","connections":1,"rate":` + rate + `}
{"server":"mdbox","round":1,"load":"1","scenario":"lm`
		paths = append(paths, filepath.Join(dir, string(rune('a'+i))))
		if err := os.WriteFile(paths[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := readRaw(paths)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, peersReport(r).text, "of 2 round(s)", "| LMTP, one account, 1 connection | per second | 60.0 | 20.0 | 4.00 | 2.00 to 6.00 |\n")
	if err := (&results{}).read([]byte("{]\n"), 0); err == nil {
		t.Error("a broken line within a file is taken")
	}
}

const growthFixture = `{"about":{"when":"2026-01-02T03:04:05Z","machine":"a machine","versions":"go1","command":"make bench-growth","servers":["martlet","mdbox"]}}
{"server":"martlet","round":1,"load":"1","scenario":"select","connections":1,"mailbox":1000,"cold_ms":2,"cold_runs":1,"median_ms":0.5}
{"server":"martlet","round":1,"load":"1","scenario":"select","connections":1,"mailbox":1000000,"cold_ms":4,"cold_runs":1,"median_ms":0.5}
{"server":"martlet","round":1,"load":"1","scenario":"fetch-flags","connections":1,"mailbox":1000,"cold_ms":2,"cold_runs":1,"median_ms":1}
{"server":"martlet","round":1,"load":"1","scenario":"fetch-flags","connections":1,"mailbox":1000000,"cold_ms":4000,"cold_runs":1,"median_ms":1000}
{"server":"mdbox","round":1,"load":"1","scenario":"fetch-flags","connections":1,"mailbox":1000,"cold_ms":2,"cold_runs":1,"median_ms":3}
{"server":"martlet","round":1,"load":"1","scenario":"fetch-flags","connections":1,"mailbox":1000,"tls":"implicit","first_ms":2,"median_ms":77}
{"server":"martlet","round":1,"load":"1","scenario":"open-memory","connections":50,"mailbox":1000000,"base":50000000,"pss":7000000}
{"server":"martlet","round":1,"load":"1","scenario":"grow","connections":10,"operations":7000,"seconds":10,"rate":700,"bytes":4000000000,"intervals":[{"seconds":2,"stored":1000000000,"messages":2000,"rate":1000},{"seconds":4,"stored":2000000000,"messages":4000,"rate":1000},{"seconds":6,"stored":2100000000,"messages":4200,"rate":100},{"seconds":8,"stored":2200000000,"messages":4400,"rate":100},{"seconds":10,"stored":4000000000,"messages":7000,"rate":1300}]}
{"server":"martlet","round":1,"load":"1","scenario":"restart","connections":1,"median_ms":321}
`

func TestGrowthReport(t *testing.T) {
	got := growthReport(fixed(t, growthFixture))
	holds(t, got.text,
		"grows to 1,000 and 1,000,000\nmessages",
		"| SELECT | Martlet | 2.00 / 0.50 | 4.00 / 0.50 | × 1.00 |\n",
		"| UID FETCH 1:\\* (FLAGS) | Martlet | 2.00 / 1.00 | 4000 / 1000 | × 10.0 |\n",
		"| UID FETCH 1:\\* (FLAGS) | Dovecot, mdbox | 2.00 / 3.00 | - / - | - |\n",
		"## A mailbox of 1,000,000 messages", "large mailbox open 50 times | MB | 57.0 |",
		"store holds 4.00 GB", "7,000 messages in 10 s, 700 per second",
		"first tenth of the intervals has 1000 per second in the median, the last tenth 1300 (1.30 of it)",
		"Of 5 intervals of 2.00 s, 2 were below half", "the longest such time lasted 4.00 s", "The slowest had 100 per second",
		"takes 321 ms until a sign-in succeeds",
	)
	for name, text := range got.pictures {
		wellFormed(t, text)
		if !strings.Contains(got.text, "(images/"+name+")") {
			t.Errorf("nothing shows %s", name)
		}
	}
	if n := len(got.pictures); n != 5 { // warm and cold of two groups, and the rate
		t.Errorf("%d charts", n)
	}
	if n := strings.Count(got.pictures["bench-growth-fetch-warm.svg"], "<polyline "); n != 2 {
		t.Errorf("the chart has %d lines for two servers", n)
	}
}

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("the chart is no XML: %v", err)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
		ok   bool
	}{{nil, 0, false}, {[]float64{3}, 3, true}, {[]float64{9, 1}, 5, true}, {[]float64{9, 1, 2}, 2, true}} {
		var in []figure
		for i, v := range c.in {
			in = append(in, figure{i, v})
		}
		if got, ok := median(in); got != c.want || ok != c.ok {
			t.Errorf("median(%v) = %v, %v", c.in, got, ok)
		}
	}
}

func TestBars(t *testing.T) {
	if got := ratioAt(ratioFloor); got != barsLeft {
		t.Errorf("the lowest ratio lies at %v", got)
	}
	if low, middle, high := ratioAt(1), ratioAt(10), ratioAt(100); math.Abs(middle-low-(high-middle)) > 1e-6 {
		t.Error("the scale is not one of powers")
	}
	if ratioAt(1e9) != barsLeft+barsWidth {
		t.Error("a bar leaves the chart")
	}
}

// TestLegs holds what the groups rely on.
func TestLegs(t *testing.T) {
	p, err := flags([]string{"-quick"})
	if err != nil {
		t.Fatal(err)
	}
	for name, legs := range map[string][]leg{"peers": p.legs(), "growth": p.growthLegs()} {
		for i, l := range legs {
			if i > 0 && l.group == legs[i-1].group && (l.on != legs[i-1].on || l.accounts != legs[i-1].accounts || l.opt.Messages != legs[i-1].opt.Messages) {
				t.Errorf("%s: %s shares a server with %s, which finds another", name, l.title, legs[i-1].title)
			}
			if i > 0 && l.group < legs[i-1].group {
				t.Errorf("%s: %s is out of order", name, l.title)
			}
			if l.on == filled && l.opt.Duration <= 0 || l.opt.Watch > time.Minute {
				t.Errorf("%s: %s has strange options", name, l.title)
			}
		}
	}
	if !(leg{}).runsOn("cyrus") || (leg{}).runsOn("postfix") || !(leg{servers: []string{"postfix"}}).runsOn("postfix") {
		t.Error("the wrong servers take part")
	}
	if _, err := flags([]string{"-servers", "exchange"}); err == nil {
		t.Error("an unknown server is taken")
	}
}
