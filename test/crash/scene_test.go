package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/crash/inject"
	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/traffic"
)

func TestMain(m *testing.M) {
	inject.Enter()
	code := traffic.Main(m)
	if common.dir != "" {
		_ = os.RemoveAll(common.dir)
	}
	os.Exit(code)
}

// needTaps skips a test where the real program, or a look at its calls, cannot be had.
func needTaps(t *testing.T) {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	if err := inject.Works(); err != nil {
		t.Skipf("this machine does not let a test see a program's calls to the system (seccomp user notification, Linux 5.19): %v", err)
	}
}

// A scenario is something that a server is asked to do, in steps that it acknowledges one
// by one. Between two steps lies a state of the server that can be seen.
type scenario struct {
	name  string
	base  string // the folder it begins in; "" is "mail"
	start bool   // what is looked at is the start of the server itself
	quiet bool   // its steps change nothing that can be seen
	open  func(*scene) error
	steps []func(*scene) error

	// check replaces the comparison of what is found with what was acknowledged.
	check  func(sc *scene, acked int, found picture) []string
	logins []login // besides those of the folder
	refuse string  // what the other host answers in place of taking mail

	kinds []string    // of calls that are looked at; nil is those that change something
	rule  inject.Rule // holds in place of the one that kills
}

// scene is one run of a scenario.
type scene struct {
	scenario
	dir    string
	server *martlet.Server
	tap    *inject.Tap
	rule   inject.Rule // that holds
	sink   *traffic.Sink
	calls  atomic.Int64    // that counted
	fired  atomic.Bool     // the server was killed
	c      *traffic.Talk   // an open connection
	told   map[string]bool // recipients whose delivery was acknowledged
}

// stage keeps the folders in which scenarios begin.
type stage struct {
	t      *testing.T
	binary string
	dir    string
	sink   *traffic.Sink
	logins map[string][]login // of each base
}

// common is the stage of all tests: to set it up takes a while. They run one by one.
var common stage

// theStage returns the stage with the folders that bases name, besides "mail".
func theStage(t *testing.T, bases ...string) *stage {
	t.Helper()
	needTaps(t)
	if common.dir == "" {
		dir, err := os.MkdirTemp("", "crash")
		if err != nil {
			t.Fatal(err)
		}
		common = stage{dir: dir, binary: traffic.Binary(t), sink: traffic.StartSink(t), logins: map[string][]login{}}
	}
	makers := map[string]func(*stage) error{
		"mail": (*stage).setUp, "killed": (*stage).setUpKilled, "hundred": (*stage).setUpHundred, "keep": (*stage).setUpKeep, "large": (*stage).setUpLarge,
	}
	for _, base := range append([]string{"mail"}, bases...) {
		if _, err := os.Stat(filepath.Join(common.dir, base)); err == nil {
			continue
		}
		if err := makers[base](&common); err != nil {
			_ = os.RemoveAll(filepath.Join(common.dir, base))
			t.Fatalf("the folder %s: %v", base, err)
		}
	}
	return common.of(t)
}

// of is the same stage for a part of the test.
func (st *stage) of(t *testing.T) *stage {
	part := *st
	part.t = t
	return &part
}

// serve starts a server in a copy of a base's folder, or in an empty one.
func (st *stage) serve(dir string, before func(*exec.Cmd) error) (*martlet.Server, error) {
	return martlet.Start(martlet.Options{Binary: st.binary, Dir: dir, Before: before})
}

// play copies the folder and starts the server in it, under a rule that counts calls and
// kills at the nth; 0 kills at none. Of an even one that is a write half is written.
func (st *stage) play(s scenario, nth int) (*scene, error) {
	dir, err := os.MkdirTemp(st.dir, "run")
	if err != nil {
		return nil, err
	}
	sc := &scene{scenario: s, dir: dir, sink: st.sink, told: map[string]bool{}}
	st.sink.Begin(s.refuse)
	if base := s.folder(); base != "none" {
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(st.dir, base))); err != nil {
			return sc, err
		}
	}
	if s.kinds == nil {
		s.kinds = inject.Changes
	}
	sc.tap = inject.New(dir, s.kinds...)
	sc.rule = func(c inject.Call) inject.Answer {
		if c.Path == "martlet.log" {
			return inject.Answer{}
		}
		if sc.calls.Add(1) == int64(nth) {
			sc.fired.Store(true)
			return inject.Answer{Kill: true, Half: nth%2 == 0}
		}
		return inject.Answer{}
	}
	if s.rule != nil {
		sc.rule = s.rule
	}
	if s.start {
		sc.tap.Set(sc.rule)
	}
	tapped := true
	sc.server, err = st.serve(dir, func(c *exec.Cmd) error {
		if !tapped {
			return nil
		}
		tapped = false
		return sc.tap.Wrap(c)
	})
	if s.start || err != nil {
		return sc, err
	}
	if s.open != nil {
		if err := s.open(sc); err != nil {
			return sc, fmt.Errorf("before the first step: %w", err)
		}
	}
	sc.tap.Set(sc.rule)
	return sc, nil
}

func (s scenario) folder() string {
	if s.base == "" {
		return "mail"
	}
	return s.base
}

// close ends a run.
func (sc *scene) close() {
	if sc.c != nil {
		sc.c.Close()
	}
	if sc.server != nil {
		sc.server.Kill()
	}
	_ = os.RemoveAll(sc.dir)
}

// rehearse runs a scenario without a fault and returns the picture before and after each
// step, and how many calls there were.
func (st *stage) rehearse(s scenario) (states []picture, calls int, err error) {
	sc, err := st.play(s, 0)
	if sc != nil {
		defer sc.close()
	}
	if err != nil {
		return nil, 0, err
	}
	snap := func() error {
		p, err := look(sc.server, st.who(s))
		states = append(states, p)
		return err
	}
	if err := snap(); err != nil || s.start {
		return states, int(sc.calls.Load()), err
	}
	for i, step := range s.steps {
		sc.tap.Set(sc.rule)
		if err := step(sc); err != nil {
			return nil, 0, fmt.Errorf("step %d: %w", i, err)
		}
		sc.tap.Set(nil) // a look may write, too
		if sc.ended() {
			if err := sc.server.Restart(); err != nil {
				return nil, 0, err
			}
		}
		if err := snap(); err != nil {
			return nil, 0, fmt.Errorf("after step %d: %w", i, err)
		}
	}
	return states, int(sc.calls.Load()), nil
}

func (st *stage) who(s scenario) []login { return slices.Concat(st.logins[s.folder()], s.logins) }

// ended reports whether the server has been stopped.
func (sc *scene) ended() bool {
	_, err := ask(sc.server, "GET", "/v1/status", nil)
	return traffic.Gone(err)
}

// kill runs a scenario with a kill at the nth call and compares what is there after a
// restart. It returns false if the call never came.
func (st *stage) kill(s scenario, states []picture, nth int) (fired bool, err error) {
	sc, err := st.play(s, nth)
	if sc == nil {
		return false, err
	}
	defer sc.close()
	if err != nil && !(s.start && sc.fired.Load()) {
		return false, err
	}
	acked := 0
	for i, step := range s.steps {
		if err = step(sc); err != nil {
			break
		}
		acked = i + 1
	}
	if err != nil && !sc.fired.Load() {
		return false, err
	}
	if !sc.fired.Load() {
		return false, nil
	}
	if err != nil && !traffic.Gone(err) && !s.start {
		return true, err
	}
	if err := st.again(sc); err != nil {
		return true, err
	}
	return true, st.judge(sc, states, acked)
}

// again starts the server once more, as whoever supervises it would.
func (st *stage) again(sc *scene) (err error) {
	if sc.server == nil { // it never was ready
		sc.server, err = st.serve(sc.dir, nil)
		return err
	}
	sc.server.Kill()
	return sc.server.Restart()
}

// judge compares what a restarted server has with what had been acknowledged.
func (st *stage) judge(sc *scene, states []picture, acked int) error {
	out, err := sc.server.Command("verify", "--json")
	if err != nil {
		return fmt.Errorf("verify: %w\n%s", err, out)
	}
	found, err := look(sc.server, st.who(sc.scenario))
	if err != nil {
		return err
	}
	var wrong []string
	if sc.check != nil {
		wrong = sc.check(sc, acked, found)
	} else {
		wrong = found.compare(states[acked:min(acked+2, len(states))]...)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%d steps acknowledged; %s", acked, strings.Join(wrong, "\n"))
	}
	return nil
}

// settle waits until a condition holds.
func settle(what string, holds func() (bool, error)) error {
	for end := time.Now().Add(traffic.Patience); ; time.Sleep(10 * time.Millisecond) {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %v", what, traffic.Patience)
		}
	}
}
