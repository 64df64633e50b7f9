package crash

import (
	"testing"

	"github.com/martlet-mail/martlet/test/promise"
)

// TestR2KillAtEveryCall kills the real server at each call by which it changes its folder,
// in each of the scenarios, and wants to find after a restart, without any repair, exactly
// the state before or after the step that was under way: that after it if it was
// acknowledged.
//
// The calls are counted in the whole process, so the same number is about the same moment
// in each run; of a write whose number is even the first half is written before the kill.
// The short form takes some from each scenario, evenly spread. A kill takes
// nothing from the system's cache, so this says nothing of syncs that are missing; the
// tests with power cuts do.
func TestR2KillAtEveryCall(t *testing.T) {
	st := theStage(t, "killed", "hundred", "keep")
	all := scenarios()
	budget := promise.Times(t, "R2", 60, 1_000_000)
	played, kills, calls := 0, 0, 0
	for i, s := range all {
		t.Run(s.name, func(t *testing.T) {
			st := st.of(t)
			states, n, err := st.rehearse(s)
			if err != nil {
				t.Fatal(err)
			}
			st.control(s, states)
			share := (budget - kills) / (len(all) - i)
			done := st.kills(s, states, n, share)
			t.Logf("%d calls, killed at %d", n, done)
			played, kills, calls = played+1, kills+done, calls+n
		})
	}
	if kills < played {
		t.Errorf("only %d kills at %d calls", kills, calls)
	}
	promise.Kept(t, "R2", "scenarios", played, "calls", calls, "kills", kills, "lost", 0, "half", 0)
}

// kills kills at up to so many of about n calls, and returns how often it did.
func (st *stage) kills(s scenario, states []picture, n, share int) (done int) {
	stride := float64(max(n, 1)) / float64(min(max(share, 1), max(n, 1)))
	for at := 1.0; done < share; at += stride {
		fired, err := st.kill(s, states, int(at))
		if err != nil {
			st.t.Errorf("killed at call %d: %v", int(at), err)
		}
		if !fired {
			break
		}
		done++
	}
	return done
}

// control tells a lie about each step: the state before it must not pass for that after.
func (st *stage) control(s scenario, states []picture) {
	if s.check != nil || s.quiet {
		return
	}
	for i := range s.steps {
		if len(states[i].compare(states[i+1])) == 0 {
			st.t.Errorf("if step %d were lost it would not be noticed", i)
		}
	}
}
