//go:build linux

// Package power takes the power from the real server: its data folder lies on a file
// system that forgets what was not synced, and at some write, rename or sync in the middle
// of its work the process is killed and the disk forgets. Whatever the server had said yes
// to must be there afterwards, once, and verify must find nothing wrong.
//
// It needs MARTLET_PEERS=1, root and /dev/fuse. MARTLET_R3=300 makes 300 cuts;
// MARTLET_R3_SEED=7 runs another series.
package power

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/power/forgetful"
	"github.com/martlet-mail/martlet/test/promise"
	"github.com/martlet-mail/martlet/test/traffic"
)

func TestMain(m *testing.M) { os.Exit(traffic.Main(m)) }

// house is a server on a forgetful disk.
type house struct {
	t      *testing.T
	rng    *rand.Rand
	binary string
	disk   *forgetful.Disk
	folder string // where the disk is mounted
	server *martlet.Server
	crowd  *traffic.Crowd
	round  int
}

// clients are those that work while the power goes.
var clients = []string{"lmtp0", "lmtp1", "smtp0", "smtp1", "submission0", "append0", "append1", "move0", "move1", "pop0"}

func build(t *testing.T, seed uint64) *house {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	if err := forgetful.Usable(); err != nil {
		t.Skipf("no file system of ours can be mounted here, so power cuts of the real server are NOT tested: %v", err)
	}
	h := &house{t: t, rng: rand.New(rand.NewPCG(seed, 3)), binary: traffic.Binary(t), disk: forgetful.New()}
	top := t.TempDir()
	h.folder = filepath.Join(top, "disk")
	h.must(os.Mkdir(h.folder, 0o700))
	h.must(h.disk.Mount(h.folder))
	t.Cleanup(func() {
		if h.server != nil {
			h.server.Kill()
			if t.Failed() {
				t.Logf("seed %d; the server's log ends\n%s", seed, h.server.LogTail(20))
			}
		}
		if err := h.disk.Unmount(); err != nil {
			t.Error(err)
		}
	})
	var err error
	h.server, err = martlet.Start(martlet.Options{
		Binary: h.binary, Dir: filepath.Join(top, "try"), Accounts: []string{"carol", "pop0"},
		Set: map[string]string{"data": strconv.Quote(filepath.Join(h.folder, "data"))},
	})
	h.must(err)
	h.crowd = &traffic.Crowd{Server: h.server, Ledger: traffic.NewLedger(), Big: 50, Seed: seed}
	return h
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// load has the clients work until the power goes: before a change of the disk that the
// seed chooses.
func (h *house) load() {
	h.round++
	h.crowd.Begin()
	off := make(chan struct{})
	h.disk.CutAfter(1+h.rng.Int64N(1500), func() {
		syscall.Kill(h.server.PID, syscall.SIGKILL)
		close(off)
	})
	var wg sync.WaitGroup
	for _, client := range clients {
		wg.Go(func() {
			var end *traffic.End
			if err := h.crowd.Run(client, h.round); !errors.As(err, &end) {
				h.t.Errorf("%s: %v", client, err)
			}
		})
	}
	select {
	case <-off:
	case <-time.After(10 * time.Second):
		h.t.Error("the clients make no load")
		h.disk.CutNow()
	}
	h.server.Kill()
	wg.Wait()
}

// start starts the server and takes the power while it comes up.
func (h *house) start() {
	cmd := exec.Command(h.binary, "serve", "--config", h.server.Config)
	h.must(cmd.Start())
	h.disk.CutAfter(1+h.rng.Int64N(60), func() { cmd.Process.Signal(syscall.SIGKILL) })
	late := time.AfterFunc(2*time.Second, h.disk.CutNow)
	defer late.Stop()
	cmd.Wait()
}

// forget makes the disk forget all that was not synced, or all but some of it.
func (h *house) forget(share float64) {
	h.must(h.disk.Unmount())
	h.disk.PowerOn(h.rng, share)
	h.must(h.disk.Mount(h.folder))
}

// check compares what is there with the ledger.
func (h *house) check(look func(*martlet.Server) (traffic.Verdict, error)) (traffic.Verdict, error) {
	if err := h.server.Restart(); err != nil {
		return traffic.Verdict{}, err
	}
	_, err := h.server.Command("verify", "--json")
	if err != nil {
		return traffic.Verdict{}, err
	}
	return look(h.server)
}

// TestPowerCutR3 cuts the power again and again. Every other time it goes once more while
// the server comes up.
func TestPowerCutR3(t *testing.T) {
	seed := uint64(1)
	if text := os.Getenv("MARTLET_R3_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("MARTLET_R3_SEED: %v", err)
		}
		seed = n
	}
	h := build(t, seed)
	cuts := promise.Times(t, "R3", 10, 300)
	made, atRisk := 0, int64(0)
	for made < cuts {
		h.load()
		bytes, changes := h.disk.Unsynced()
		atRisk += bytes + int64(changes)
		h.forget(float64(h.rng.IntN(5)) / 4)
		if made++; made%2 == 0 {
			h.start()
			h.forget(float64(h.rng.IntN(5)) / 4)
			made++
		}
		v, err := h.check(h.crowd.Ledger.Check)
		if err != nil || !v.OK() {
			t.Fatalf("seed %d, after cut %d: %v; %v", seed, made, err, v)
		}
	}
	clear, unknown := h.crowd.Ledger.Counts()
	if clear < 20*cuts || unknown == 0 || atRisk == 0 {
		t.Errorf("%d acknowledged, %d cut off, %d bytes and changes unsynced at the cuts: too little for a proof", clear, unknown, atRisk)
	}
	promise.Kept(t, "R3", "power cuts", made, "messages", clear, "cut off", unknown, "lost", 0, "dup", 0)
}

// TestPowerCutOnTheFirstDay takes the power before anything but the mail made the server
// sync: the folders it had made for itself must have lasted, too.
func TestPowerCutOnTheFirstDay(t *testing.T) {
	h := build(t, 2)
	h.load()
	h.forget(0)
	v, err := h.check(h.crowd.Ledger.Check)
	if err != nil || !v.OK() {
		t.Errorf("%v; %v", err, v)
	}
}

// TestPowerCutNoticesLies runs the same on a disk that says yes to a sync and does not do
// it. If nothing is lost then, the test above proves nothing.
func TestPowerCutNoticesLies(t *testing.T) {
	h := build(t, 1)
	h.disk.Lie()
	h.load()
	h.forget(0)
	v, err := h.check(h.crowd.Ledger.Look)
	if err == nil && v.Lost == 0 {
		t.Errorf("a disk that syncs nothing lost nothing: %v", v)
	}
	t.Logf("noticed: %v, %v", err, v)
}
