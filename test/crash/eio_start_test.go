package crash

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/test/crash/inject"
	"github.com/martlet-mail/martlet/test/promise"
	"github.com/martlet-mail/martlet/test/traffic"
)

// TestR6Start has calls of the real server fail while it starts, for the first time or on
// a folder that a kill has left, whose logs are to be read and whose tables are to be
// merged. It either starts and has everything, or says why it does not; and it has
// everything when it is started on a whole disk.
func TestR6Start(t *testing.T) {
	st := theStage(t, "killed")
	most := promise.Times(t, "R6", 1, 200)
	trials, refused, kinds := 0, 0, 0
	for _, s := range []scenario{
		{name: "first start", base: "none", start: true, check: firstStart},
		{name: "start after kills", base: "killed", start: true},
	} {
		states, _, err := st.rehearse(s)
		if err != nil {
			t.Fatal(err)
		}
		k := &sick{seen: map[string]int{}, broken: map[string]int{}}
		if err := st.begin(k, s, states); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %v", s.name, k.seen)
		kinds = max(kinds, len(k.seen))
		list := breakages(k.seen, most)
		if most == 1 {
			list = onePerCall(list)
		}
		for _, b := range list {
			k := &sick{breakage: b, seen: map[string]int{}, broken: map[string]int{}}
			if err := st.begin(k, s, states); err != nil {
				t.Errorf("%s, %v: %v", s.name, b, err)
			}
			trials++
			if k.ends {
				refused++
			}
		}
	}
	if refused == 0 || refused == trials || kinds < 8 {
		t.Errorf("%d of %d starts were refused, %d kinds: too little for a proof", refused, trials, kinds)
	}
	promise.Kept(t, "R6", "kinds of calls", kinds, "starts", trials, "refused", refused, "lost", 0)
}

// onePerCall leaves one file of those on which a call is made.
func onePerCall(list []breakage) []breakage {
	last := map[string]breakage{}
	for _, b := range list {
		call, _, _ := strings.Cut(b.kind, " ")
		last[call] = b
	}
	return slices.Collect(maps.Values(last))
}

// begin starts a server with a breakage and compares what it has, then and after another
// start, with what was there before.
func (st *stage) begin(k *sick, s scenario, states []picture) error {
	s.kinds, s.rule = slices.Concat(inject.Changes, inject.Reads), k.rule
	sc, err := st.play(s, 0)
	if sc == nil {
		return err
	}
	defer sc.close()
	if err != nil {
		k.ends = true
		log, _ := os.ReadFile(filepath.Join(sc.dir, "martlet.log"))
		if strings.Contains(err.Error(), "not ready after") || !strings.Contains(string(log), "martlet: ") || strings.Contains(string(log), "panic") {
			return fmt.Errorf("it does not start and says\n%s\n%w", log, err)
		}
	} else {
		sc.tap.Set(nil)
		k.Crowd = &traffic.Crowd{Server: sc.server}
		if err := st.judge(sc, states, 0); err != nil && !k.stopped() {
			return fmt.Errorf("it has started, but %w", err)
		}
	}
	if err := st.again(sc); err != nil {
		return err
	}
	return st.judge(sc, states, 0)
}

// TestR6Stop has all calls of a kind fail from the moment on in which the server is told to
// stop. If it could not write what it would have written it ends with an error, and
// nothing is lost all the same.
func TestR6Stop(t *testing.T) {
	st := theStage(t, "killed")
	failed := 0
	for _, kind := range []string{"write .log", "fdatasync .log", "fsync store", "openat .log", "openat .sst", "write .sst", "sync_file_range .sst", "unlinkat .log", "unlinkat admin.sock"} {
		k := &sick{breakage: breakage{kind, 1, true}, seen: map[string]int{}, broken: map[string]int{}}
		if err := st.stopSick(k); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if k.ends {
			failed++
		}
	}
	if failed == 0 {
		t.Error("no stop failed: too little for a proof")
	}
}

func (st *stage) stopSick(k *sick) error {
	var before picture
	s := scenario{name: "sick stop", base: "killed", rule: k.rule, open: func(sc *scene) (err error) {
		if err := fill(sc.server, of(sc.server, "bob"), map[string]int{"Trash": 1}); err != nil {
			return err
		}
		k.Crowd = &traffic.Crowd{Server: sc.server}
		before, err = look(sc.server, st.logins["killed"])
		return err
	}}
	sc, err := st.play(s, 0)
	if sc != nil {
		defer sc.close()
	}
	if err != nil {
		return err
	}
	err = sc.server.Stop()
	k.ends = k.stopped()
	if k.ends != (err != nil) {
		return fmt.Errorf("it stopped writing: %t, and ended with %v", k.ends, err)
	}
	if err := st.again(sc); err != nil {
		return err
	}
	return st.judge(sc, []picture{before}, 0)
}
