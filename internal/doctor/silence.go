package doctor

import (
	"context"
	"net/netip"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// silence is a name service that is known not to answer.
type silence struct{ why string }

func (s silence) err() error { return fault.New(fault.Unavailable, s.why) }

func (s silence) LookupMX(context.Context, string) ([]dnsx.MX, dnsx.Info, error) {
	return nil, dnsx.Info{}, s.err()
}

func (s silence) LookupAddr(context.Context, string) ([]netip.Addr, dnsx.Info, error) {
	return nil, dnsx.Info{}, s.err()
}

func (s silence) LookupIP(context.Context, string, bool) ([]netip.Addr, dnsx.Info, error) {
	return nil, dnsx.Info{}, s.err()
}

func (s silence) LookupTXT(context.Context, string) ([]string, dnsx.Info, error) {
	return nil, dnsx.Info{}, s.err()
}

func (s silence) LookupCNAME(context.Context, string) (string, dnsx.Info, error) {
	return "", dnsx.Info{}, s.err()
}

func (s silence) LookupPTR(context.Context, netip.Addr) ([]string, dnsx.Info, error) {
	return nil, dnsx.Info{}, s.err()
}

func (s silence) LookupSRV(context.Context, string) ([]dnsx.SRV, dnsx.Info, error) {
	return nil, dnsx.Info{}, s.err()
}

func (s silence) LookupTLSA(context.Context, string) ([]dnsx.TLSA, dnsx.Info, error) {
	return nil, dnsx.Info{}, s.err()
}

func (s silence) LookupCAA(context.Context, string) ([]dnsx.CAA, dnsx.Info, error) {
	return nil, dnsx.Info{}, s.err()
}
