//go:build linux

package machine

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/promise"
	"github.com/martlet-mail/martlet/test/traffic"
)

// usage is what a server uses at one moment: goroutines, descriptors, bytes of memory.
type usage [3]float64

var usageNames = [3]string{"goroutines", "descriptors", "memory"}

// leeway is how much more of each there may be at the end than at the beginning: a part of
// it, or so much. What a load holds for a moment is no leak.
type leeway struct {
	part float64
	much usage
}

// In seconds caches still fill; in minutes they have.
var (
	inSeconds = leeway{0.20, usage{15, 10, 24 << 20}}
	inMinutes = leeway{0.10, usage{15, 10, 16 << 20}}
)

// leaks compares the medians of the first and of the last window, and names what has grown
// by more than it may, all the way: one in the middle that is higher than the last one
// shows that it goes down, too.
func leaks(windows []usage, may leeway) (grown []string) {
	first, last := windows[0], windows[len(windows)-1]
	for i, name := range usageNames {
		highest := 0.0
		for _, w := range windows[:len(windows)-1] {
			highest = max(highest, w[i])
		}
		if last[i] > first[i]+max(may.part*first[i], may.much[i]) && last[i] >= highest {
			grown = append(grown, fmt.Sprintf("%s from %.0f to %.0f", name, first[i], last[i]))
		}
	}
	return grown
}

// TestNoLeakR27 has a mixed load for a while and compares what the server uses: for some
// seconds, or for MARTLET_R27 minutes. Then connections are opened and kept, which must look
// like a leak.
func TestNoLeakR27(t *testing.T) {
	needsPeers(t)
	opt := martlet.Options{Serve: true}
	for i := range 4 {
		opt.Accounts = append(opt.Accounts, fmt.Sprint("pop", i))
	}
	s := start(t, opt)
	must(t, s.Stop())
	must(t, s.Restart())

	settle, window, may := 5*time.Second, 2*time.Second, inSeconds
	if minutes := promise.Times(t, "R27", 0, 10); minutes > 0 {
		all := time.Duration(minutes) * time.Minute
		settle, window, may = all/5, all*4/25, inMinutes
	}
	crowd := &traffic.Crowd{
		Server: s, Ledger: traffic.NewLedger(), Seed: 27, Pause: 30 * time.Millisecond, Most: 20, Big: 200,
		Refused: func(_ string, r *traffic.Refusal) bool { return false },
	}
	var log journal
	wait := work(t, crowd, &log, clients(map[string]int{"pop": 4, "churn": 2, "search": 2, "nap": 3, "abort": 2, "cut": 1, "wrong": 1}))
	used, began := processor(t, s.PID), time.Now()
	time.Sleep(settle)
	var windows []usage
	for range 5 {
		windows = append(windows, watch(t, s, window))
		crowd.Ledger.Settle()
	}
	t.Logf("medians of goroutines, descriptors, bytes: %.0f", windows)
	if grown := leaks(windows, may); len(grown) > 0 {
		t.Errorf("it grows: %s; medians %.0f", strings.Join(grown, ", "), windows)
	}
	used = processor(t, s.PID) - used
	took := time.Since(began)
	if !promise.Long() && os.Getenv("MARTLET_R27") == "" {
		occupy(t, s, 60)
		if with := append(slices.Clone(windows), watch(t, s, time.Second)); len(leaks(with, may)) == 0 {
			t.Errorf("60 connections that were opened and kept look like no leak: %.0f", with)
		}
	}
	crowd.Stop()
	wait()
	if log.failures > 0 {
		t.Errorf("%d sessions failed, first: %s", log.failures, strings.Join(log.first, "; "))
	}
	if crowd.Done() < 100 {
		t.Errorf("%d transactions: too little for a proof", crowd.Done())
	}
	sound(t, s, crowd.Ledger)
	first, last := windows[0], windows[len(windows)-1]
	promise.Kept(t, "R27", "seconds", int(took.Seconds()), "transactions", crowd.Done(), "processor seconds", int(used.Seconds()),
		"goroutines first", int(first[0]), "last", int(last[0]), "descriptors first", int(first[1]), "last", int(last[1]),
		"MB first", int(first[2])>>20, "last", int(last[2])>>20)
}

// watch takes the medians of a while.
func watch(t *testing.T, s *martlet.Server, d time.Duration) (median usage) {
	t.Helper()
	var all [3][]float64
	for end := time.Now().Add(d); time.Now().Before(end) || len(all[0]) == 0; time.Sleep(min(d/20, 5*time.Second)) {
		for i, v := range look(t, s) {
			all[i] = append(all[i], v)
		}
	}
	for i := range all {
		slices.Sort(all[i])
		median[i] = all[i][len(all[i])/2]
	}
	return median
}

// look asks the server, and the system about its memory.
func look(t *testing.T, s *martlet.Server) (u usage) {
	t.Helper()
	res, err := http.Get("http://" + s.Addr("http") + "/metrics")
	must(t, err)
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			u[0], err = strconv.ParseFloat(text, 64)
			must(t, err)
		}
	}
	u[1] = float64(descriptors(t, s.PID))
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.PID))
	must(t, err)
	pages, err := strconv.ParseFloat(strings.Fields(string(b))[1], 64)
	must(t, err)
	u[2] = pages * float64(os.Getpagesize())
	return u
}

func TestLeaks(t *testing.T) {
	flat := []usage{{50, 60, 80e6}, {55, 66, 90e6}, {48, 58, 82e6}, {52, 63, 88e6}, {51, 61, 86e6}}
	for _, c := range []struct {
		name    string
		windows []usage
		want    int
	}{
		{"flat", flat, 0},
		{"goroutines", []usage{{50, 60, 80e6}, {60, 60, 80e6}, {70, 60, 80e6}, {80, 60, 80e6}, {90, 60, 80e6}}, 1},
		{"descriptors", []usage{{50, 60, 80e6}, {50, 70, 80e6}, {50, 80, 80e6}}, 1},
		{"memory", []usage{{50, 60, 80e6}, {50, 60, 100e6}, {50, 60, 120e6}}, 1},
		{"a burst that goes again", []usage{{50, 60, 80e6}, {50, 60, 150e6}, {50, 60, 120e6}}, 0},
		{"all", []usage{{50, 60, 80e6}, {90, 90, 180e6}}, 3},
	} {
		if got := leaks(c.windows, inSeconds); len(got) != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
