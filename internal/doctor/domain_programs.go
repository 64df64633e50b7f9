package doctor

import (
	"context"
	"strings"

	"github.com/martlet-mail/martlet/internal/discover/clients"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/publish"
)

// agents compares the digest of the settings at ua-auto-config with the settings. Without one
// nobody asks for them; with a wrong one programs refuse them.
func (d *Doctor) agents(ctx context.Context, dom publish.Domain) finding {
	want, wanted := d.wanted(dom, "_ua-auto-config."+dom.Name, "TXT")
	if !wanted {
		return skip("there are no settings of this kind: they need https, and TLS on the ports 993 and 465")
	}
	f := publish.Compare(ctx, d.Resolver, []publish.Record{want}, nil)[0]
	switch f.Status {
	case publish.Same:
		return ok("the digest of the settings for newer programs is right")
	case publish.Unknown:
		return skip("%s", f.Note)
	case publish.Missing:
		return ok("the digest of the settings for newer programs is not published, so they are not asked for")
	}
	return warn("replace it: "+put(want), "the digest at %s is of other settings, so newer programs refuse these: %s", want.Name, strings.Join(f.Found, " | "))
}

// programs plays mail programs against the domain. PACC has a check of its own.
func (d *Doctor) programs(ctx context.Context, dom publish.Domain) finding {
	if d.Site.Web == 0 || d.Site.Agents == nil {
		return skip("programs are told nothing here: there is no listener for https, or autoconfig.enabled is off")
	}
	all, err := clients.Play(ctx, "check@"+dom.Name, clients.Options{Resolver: d.Resolver, Dial: d.Dial, Roots: d.Roots, Now: d.Now, AllowPrivate: true})
	if err != nil {
		return skip("programs could not be played: %s", fault.Say(err))
	}
	works := 0
	var fails []string
	for _, o := range all {
		switch {
		case o.OK:
			works++
		case o.Client == "PACC", o.Unknown:
		default:
			fails = append(fails, o.Client+" ("+o.Tries[0].Why+")")
		}
	}
	switch {
	case len(fails) > 0:
		return warn("see why: martlet discover "+dom.Name+" --serve-check", "mail programs find no settings that work: %s", strings.Join(fails, "; "))
	case works == 0:
		return skip("programs could not ask")
	}
	return ok("%d kinds of mail programs set themselves up", works)
}
