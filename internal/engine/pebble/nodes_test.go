package pebble

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
)

// The handles that tests of several nodes work with are held to the contract themselves.
func TestContractOfNodes(t *testing.T) {
	enginetest.Run(t, enginetest.Harness{
		Open: func(t *testing.T, now func() time.Time) engine.Engine {
			opt := small(vfs.NewMem())
			opt.Now = now
			return enginetest.Nodes(open(t, "data", opt), 1)[0]
		},
		Runs:  10 / effort,
		Early: true,
		Hold: func(t *testing.T) (engine.Engine, func(), func()) {
			fs := &heldFS{FS: vfs.NewMem()}
			return enginetest.Nodes(open(t, "data", small(fs)), 1)[0], fs.hold, fs.release
		},
	})
	for name, lost := range map[string]bool{"hints": false, "polls": true} {
		t.Run(name, func(t *testing.T) {
			enginetest.RunShared(t, func(t *testing.T) (all []engine.Shared) {
				for _, n := range enginetest.Nodes(open(t, "data", small(vfs.NewMem())), 3) {
					if all = append(all, n); lost {
						n.Lose()
						polled(t, n)
					}
				}
				return all
			})
		})
	}
}

// polled has a node look for lost hints until the test ends.
func polled(t *testing.T, n *enginetest.Node) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
				n.Poll()
			}
		}
	}()
	t.Cleanup(func() { close(end); <-ended })
}
