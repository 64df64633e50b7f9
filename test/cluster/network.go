package cluster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// end is one side of a partition: a host, and which of its addresses.
type end struct {
	host      *lab.Host
	addresses []string
}

func all(h *lab.Host) end         { return end{h, []string{h.IPv4.String()}} }
func whole(d *Database) end       { return end{d.Host, []string{d.address(), d.etcdAddress()}} }
func etcdOf(d *Database) end      { return end{d.Host, []string{d.etcdAddress()}} }
func (n *Node) end() end          { return all(n.Host) }
func (s *ObjectStore) end() end   { return all(s.Host) }
func ends(dbs ...*Database) []end { return each(dbs, whole) }

func each[A, B any](from []A, fn func(A) B) (to []B) {
	for _, a := range from {
		to = append(to, fn(a))
	}
	return to
}

// Part has all packets between two hosts get lost without a word, in both directions. heal
// undoes it.
func Part(a, b end) (heal func() error, err error) {
	if err := errors.Join(lose(a.host, b.addresses), lose(b.host, a.addresses)); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(find(a.host, b.addresses), find(b.host, a.addresses)) }, nil
}

// PartAll parts one from each of others.
func PartAll(one end, others ...end) (heal func() error, err error) {
	var heals []func() error
	for _, o := range others {
		h, err := Part(one, o)
		if err != nil {
			return nil, err
		}
		heals = append(heals, h)
	}
	return func() error {
		var errs []error
		for _, h := range heals {
			errs = append(errs, h())
		}
		return errors.Join(errs...)
	}, nil
}

// lose sends what goes to addresses to a card that nobody has.
func lose(h *lab.Host, addresses []string) error {
	return neighbours(h, addresses, "ip neigh replace %s lladdr 02:00:00:00:00:01 dev eth0 nud permanent\n")
}

func find(h *lab.Host, addresses []string) error {
	return neighbours(h, addresses, "ip neigh del %s dev eth0\n")
}

func neighbours(h *lab.Host, addresses []string, command string) error {
	var b strings.Builder
	for _, a := range addresses {
		fmt.Fprintf(&b, command, a)
	}
	_, err := h.Output("sh", "-ec", b.String())
	return err
}

// delay has what the primary writes not reach its replicas.
func delay(l *Lab, primary *Database) (heal func() error, err error) {
	var others []end
	for _, d := range l.Databases {
		if d != primary {
			others = append(others, all(d.Host))
		}
	}
	return PartAll(all(primary.Host), others...)
}
