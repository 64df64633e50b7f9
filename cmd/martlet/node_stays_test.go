package main

import (
	"testing"
	"testing/synctest"
	"time"
)

// A node that is told to stay while it leaves ends no session; one that is not does.
func TestToldToStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := testNodes(t)
		n := nodes[0]
		left := make(chan bool, 1)
		go func() { left <- leaves(t.Context(), n, 10*time.Second) }()
		drain := func(on bool) {
			if err := n.Drain(t.Context(), n.Name(), on); err != nil {
				t.Fatal(err)
			}
		}
		drain(true)
		time.Sleep(5 * time.Second)
		drain(false)
		time.Sleep(time.Minute)
		if len(left) > 0 {
			t.Error("sessions end, though the node stays")
		}
		drain(true)
		time.Sleep(9 * time.Second)
		if len(left) > 0 {
			t.Error("sessions end early")
		}
		time.Sleep(2 * time.Second)
		if len(left) != 1 {
			t.Error("sessions go on, though the node has left")
		}
	})
}
