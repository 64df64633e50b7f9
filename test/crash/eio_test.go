package crash

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/martlet-mail/martlet/test/crash/inject"
	"github.com/martlet-mail/martlet/test/promise"
	"github.com/martlet-mail/martlet/test/traffic"
)

// breakage is what goes wrong in one trial of R6.
type breakage struct {
	kind string // of call and file
	nth  int
	ever bool // from then on
}

// kindOf names a call and what it is made on.
func kindOf(c inject.Call) string {
	base := filepath.Base(c.Path)
	for _, part := range []string{".log", ".sst", ".blob", "MANIFEST", "OPTIONS", "marker", "spool", "dbtmp"} {
		if strings.Contains(base, part) {
			return c.Kind + " " + part
		}
	}
	return c.Kind + " " + numbers.ReplaceAllString(base, "")
}

var numbers = regexp.MustCompile(`\d+`) // in names of temporary files

func (b breakage) String() string {
	return fmt.Sprintf("%s, call %d, for ever %t", b.kind, b.nth, b.ever)
}

// sick is a server some of whose calls fail.
type sick struct {
	killer
	breakage

	mu      sync.Mutex
	seen    map[string]int // calls by kind
	broken  map[string]int // files whose calls failed
	refused int
	ends    bool // it has stopped writing
}

// rule fails calls.
func (k *sick) rule(c inject.Call) inject.Answer {
	if c.Path == "martlet.log" {
		return inject.Answer{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	kind := kindOf(c)
	k.seen[kind]++
	if n := k.seen[kind]; kind != k.kind || n < k.nth || n > k.nth && !k.ever {
		return inject.Answer{}
	}
	k.broken[c.Path]++
	return inject.Answer{Errno: syscall.EIO}
}

// TestR6RealProgram has calls of the real server fail, one of a kind or all from the nth
// on, while mail comes in, is read, moved and deleted. No client may hear of anything
// but success or a passing failure; a server that may have lost something stops and says
// why; and after a restart on a whole disk all that was acknowledged is there, once.
func TestR6RealProgram(t *testing.T) {
	st := theStage(t)
	seen := st.toil(breakage{}, 1).seen
	if t.Failed() {
		return
	}
	t.Logf("calls: %v", seen)
	most := promise.Times(t, "R6", 1, 200)
	trials, refused, stops := 0, 0, 0
	for i, b := range breakages(seen, most) {
		k := st.toil(b, uint64(i))
		if t.Failed() {
			return
		}
		trials, refused = trials+1, refused+k.refused
		if k.ends {
			stops++
		}
	}
	if stops == 0 || refused == 0 || len(seen) < 12 {
		t.Errorf("%d stops, %d refusals, %d kinds: too little for a proof", stops, refused, len(seen))
	}
	promise.Kept(t, "R6", "kinds of calls", len(seen), "trials", trials, "refusals", refused, "stops", stops, "lost", 0, "dup", 0)
}

// breakages lists what is to go wrong, by the calls that were seen: one call and all from
// it on, for each of up to most calls. If that is only one, each kind of call goes wrong in
// one of the two ways, at a call by chance.
func breakages(seen map[string]int, most int) (list []breakage) {
	for i, kind := range slices.Sorted(maps.Keys(seen)) {
		if most == 1 {
			rng := rand.New(rand.NewPCG(6, uint64(i)))
			list = append(list, breakage{kind, 1 + rng.IntN(min(seen[kind], 20)), i%2 == 0})
			continue
		}
		for n := range min(most, seen[kind]) {
			list = append(list, breakage{kind, n + 1, false}, breakage{kind, n + 1, true})
		}
	}
	return list
}

// toil works on a server with a breakage, ends it, starts it again and compares.
func (st *stage) toil(b breakage, seed uint64) *sick {
	t := st.t
	t.Helper()
	k := &sick{breakage: b, seen: map[string]int{}, broken: map[string]int{}}
	wrong := func(format string, args ...any) *sick {
		t.Helper()
		t.Errorf("%v, seed %d: %s", b, seed, fmt.Sprintf(format, args...))
		if k.Crowd != nil {
			t.Logf("the log ends\n%s", k.Server.LogTail(10))
		}
		return k
	}
	sc, err := st.play(scenario{name: "toil", kinds: slices.Concat(inject.Changes, inject.Reads), rule: k.rule, open: func(sc *scene) error {
		k.killer = *newKiller(t, sc.server, st.sink, seed)
		return k.Ledger.Adopt(sc.server)
	}}, 0)
	if sc != nil {
		defer sc.close()
	}
	if err != nil {
		return wrong("%v", err)
	}
	if err := k.work(rand.New(rand.NewPCG(seed, 6))); err != nil {
		return wrong("%v", err)
	}
	end := k.Server.Stop()
	sc.tap.Set(nil)
	if k.stopped() != (end != nil) {
		return wrong("the server ended with %v, stopped writing: %t", end, k.stopped())
	}
	if path := k.mustStop(); path != "" && !k.stopped() {
		return wrong("a failed call on %s did not stop the writing", path)
	}
	if err := k.Server.Restart(); err != nil {
		return wrong("%v", err)
	}
	k.verify()
	k.check(int(seed))
	if b.kind == "" {
		if err := k.Ledger.Control(k.Server); err != nil {
			return wrong("%v", err)
		}
		if k.refused > 0 || k.stopped() {
			return wrong("%d refusals without a fault", k.refused)
		}
	}
	k.ends = k.stopped()
	return k
}

// stopped reports whether the server has said that it writes no more.
func (k *sick) stopped() bool {
	log, _ := os.ReadFile(k.Server.Log)
	return strings.Contains(string(log), "no longer written") && strings.Contains(string(log), "input/output error")
}

// mustStop returns a file whose failure may have lost something that was or would be
// acknowledged: one of the store's that could not be written or synced.
func (k *sick) mustStop() string {
	call, _, _ := strings.Cut(k.kind, " ")
	if !slices.Contains([]string{"write", "pwrite64", "fsync", "fdatasync", "openat", "renameat", "linkat"}, call) {
		return ""
	}
	for path := range k.broken {
		if strings.HasPrefix(path, "data/store/") {
			return path
		}
	}
	return ""
}

// work does a bit of everything, until it is done or the server has gone.
func (k *sick) work(rng *rand.Rand) error {
	imap := k.Session("toil")
	defer func() {
		if imap.Talk != nil {
			imap.Close()
		}
	}()
	for i := range 30 {
		token := fmt.Sprintf("toil-%d", i)
		var err error
		if imap.Talk == nil {
			err = imap.Open("alice", "Archive")
		}
		switch r := rng.IntN(7); {
		case err != nil:
		case i == 4: // so much that the store must make new files
			_, err = imap.Store(token, note(token, 10<<20))
		case r < 1:
			err = k.Session(token).Deliver("smtp", token, "alice")
		case r < 2:
			err = k.Session(token).Deliver("lmtp", token, "bob", "carol")
		case r < 3:
			err = k.Session(token).Collect()
		case r < 4:
			err = k.fetch(imap.Talk)
		default:
			var uid string
			uid, err = imap.Append(token)
			if err == nil && r < 5 {
				err = imap.Move(token, uid)
			} else if err == nil && r < 6 {
				err = imap.Delete(token, uid)
			}
		}
		if err == nil {
			continue
		}
		if !polite(err) {
			return err
		}
		k.refused++
		var no *traffic.Refusal
		if !errors.As(err, &no) && imap.Talk != nil {
			imap.Close()
			imap.Talk = nil
		}
		c, err := traffic.Dial(k.Server.Addr("imap"))
		if err != nil {
			return nil // it has ended
		}
		c.Close()
	}
	return nil
}

// polite reports whether a client may take a failure for one that passes: it must not
// think that its mail is unwanted or its command wrong.
func polite(err error) bool {
	var end *traffic.End
	if errors.As(err, &end) {
		return end.Said != "" || traffic.Gone(err)
	}
	var no *traffic.Refusal
	if !errors.As(err, &no) {
		return false
	}
	for _, good := range []string{"4", "NO ", "-ERR [SYS/TEMP]", "-ERR [IN-USE]"} {
		if strings.HasPrefix(no.Text, good) {
			return true
		}
	}
	return false
}

// fetch reads bodies that were there before the server was started, and so are in files.
func (k *sick) fetch(c *traffic.Talk) error {
	lines, err := c.Do("UID FETCH 1:3 (BODY.PEEK[])")
	if err != nil {
		return err
	}
	for i := range 3 {
		for _, l := range strings.Split(strings.TrimSpace(note(fmt.Sprintf("%s-Archive-%d", alice, i), 10+i*300)), "\r\n") {
			if !slices.Contains(lines, l) {
				return fmt.Errorf("message %d has no line %q", i, l)
			}
		}
	}
	return nil
}
