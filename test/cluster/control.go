package cluster

import (
	"errors"
	"time"
)

// Control is the fault that must lose mail where databases acknowledge what no replica has:
// the primary's replicas are out of its reach for three seconds, and then it is gone.
func Control() Fault {
	return Fault{Name: "*Control:* synchronous mode off, replication held up for 3 s, then kill -9 of all on the primary's machine", Hold: 30 * time.Second, Begin: func(l *Lab) (func() error, error) {
		p := l.Primary()
		heal, err := delay(l, p)
		if err != nil {
			return nil, err
		}
		time.Sleep(3 * time.Second)
		// What the kernel still has to send for the dead must not arrive.
		return func() error { return errors.Join(heal(), p.Revive()) }, p.Kill()
	}}
}
