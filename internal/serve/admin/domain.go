package admin

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/doctor"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/publish"
)

// domainCalls are the calls about domains.
func (a *api) domainCalls() map[string]handler {
	return map[string]handler{
		"GET /v1/domains":                     a.listDomains,
		"POST /v1/domains":                    a.addDomain,
		"DELETE /v1/domains/{domain}":         a.removeDomain,
		"GET /v1/domains/{domain}":            a.showDomain,
		"PUT /v1/domains/{domain}/settings":   a.setDomain,
		"GET /v1/domains/{domain}/keys":       a.listKeys,
		"POST /v1/domains/{domain}/rotate":    a.rotate,
		"GET /v1/domains/{domain}/dns":        a.showDNS,
		"GET /v1/domains/{domain}/dns/diff":   a.diffDNS,
		"POST /v1/domains/{domain}/dns/apply": a.applyDNS,
	}
}

// Names is what is known of the domain name system. Without Site nothing is.
type Names struct {
	Site   func(ctx context.Context) (publish.Site, error)
	Keeper publish.Keeper
	Doctor func(ctx context.Context) (doctor.Options, error) // without the domains
}

type settingLine struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Default string `json:"default"`
	Meaning string `json:"meaning"`
}

type domainAnswer struct {
	domainLine
	Settings []settingLine `json:"settings"`
	Keys     []keyLine     `json:"keys"`
}

// keyLine is a signing key without what is secret of it.
type keyLine struct {
	Selector  string     `json:"selector"`
	Algorithm string     `json:"algorithm"`
	State     string     `json:"state"`
	Created   *time.Time `json:"created,omitempty"`
	Published *time.Time `json:"published,omitempty"` // first seen in the DNS
	Activated *time.Time `json:"activated,omitempty"`
	Retired   *time.Time `json:"retired,omitempty"`
	Gone      *time.Time `json:"gone,omitempty"` // or when it may go
	Name      string     `json:"name"`
	Value     string     `json:"value,omitempty"`
}

func keyLineOf(k directory.SigningKey) keyLine {
	when := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return keyLine{
		k.Selector, k.Algorithm, k.State.String(),
		when(k.Created), when(k.Published), when(k.Activated), when(k.Retired), when(k.Gone),
		publish.DKIMName(k), publish.DKIMText(k),
	}
}

// domain finds the domain in the path.
func (a *api) domain(r *request) (directory.Domain, error) {
	name, err := parseDomain(r.PathValue("domain"))
	if err != nil {
		return directory.Domain{}, err
	}
	return a.Directory.Domain(r.ctx, name)
}

func (a *api) showDomain(r *request) error {
	d, err := a.domain(r)
	if err != nil {
		return err
	}
	out := domainAnswer{domainLine: domainLine{d.Name, d.CatchAll.String(), d.Created.UTC()}, Keys: []keyLine{}}
	settings, err := a.Directory.AllSettings(r.ctx, d.Name)
	if err != nil {
		return err
	}
	for _, s := range settings {
		out.Settings = append(out.Settings, settingLine(s))
	}
	keys, err := a.Directory.MakeKeys(r.ctx, d.Name)
	if err != nil {
		return err
	}
	for _, k := range keys {
		out.Keys = append(out.Keys, keyLineOf(k))
	}
	return r.send(out)
}

func (a *api) setDomain(r *request) error {
	d, err := a.domain(r)
	if err != nil {
		return err
	}
	values := map[string]string{}
	if err := r.read(&values); err != nil {
		return err
	}
	if err := a.Directory.Set(r.ctx, d.Name, values); err != nil {
		return err
	}
	return r.send(struct {
		Domain   string            `json:"domain"`
		Settings map[string]string `json:"settings"`
	}{d.Name, values})
}

func (a *api) listKeys(r *request) error {
	d, err := a.domain(r)
	if err != nil {
		return err
	}
	keys, err := a.Directory.MakeKeys(r.ctx, d.Name)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := r.send(keyLineOf(k)); err != nil {
			return err
		}
	}
	return nil
}

type rotateAnswer struct {
	Domain string    `json:"domain"`
	Step   string    `json:"step"` // "published", "to publish", "active"
	Keys   []keyLine `json:"keys"` // that it is about
}

// rotate takes the next step from one set of keys to another.
func (a *api) rotate(r *request) error {
	var in struct {
		Force bool `json:"force"` // also if the next keys are not seen in the DNS
	}
	if err := r.read(&in); err != nil {
		return err
	}
	d, err := a.domain(r)
	if err != nil {
		return err
	}
	if _, err := a.Directory.MakeKeys(r.ctx, d.Name); err != nil {
		return err
	}
	keys, err := a.Directory.ExpireKeys(r.ctx, d.Name)
	if err != nil {
		return err
	}
	next := slices.DeleteFunc(keys, func(k directory.SigningKey) bool { return k.State != directory.KeyNext })
	if len(next) == 0 {
		return a.prepare(r, d)
	}
	if !in.Force {
		if err := a.mustBePublished(r.ctx, d, next); err != nil {
			return err
		}
	}
	if keys, err = a.Directory.Activate(r.ctx, d.Name); err != nil {
		return err
	}
	return r.send(rotateAnswer{d.Name, "active", linesOf(keys, directory.KeyActive)})
}

// prepare makes the next keys, and publishes them if that can be done from here.
func (a *api) prepare(r *request, d directory.Domain) error {
	keys, err := a.Directory.NextKeys(r.ctx, d.Name)
	if err != nil {
		return err
	}
	step := "to publish"
	if u := a.Names.Keeper.Updater; u != nil {
		if _, ours := u.ZoneOf("_domainkey." + keys[0].Domain); ours {
			if err := a.Names.Keeper.Publish(r.ctx, d.Name, keys); err != nil {
				return err
			}
			step = "published"
		}
	}
	return r.send(rotateAnswer{d.Name, step, linesOf(keys, directory.KeyNext)})
}

func (a *api) mustBePublished(ctx context.Context, d directory.Domain, next []directory.SigningKey) error {
	if a.Names.Site == nil {
		return errNoNames()
	}
	missing, err := a.Names.Keeper.Missing(ctx, next)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fault.Newf(fault.Denied, "the next keys are not in the DNS yet: %s; publish them (martlet domain keys %s), or let them sign all the same with --force", strings.Join(missing, ", "), d.Name)
	}
	return nil
}

func linesOf(keys []directory.SigningKey, state directory.KeyState) (lines []keyLine) {
	for _, k := range keys {
		if k.State == state {
			lines = append(lines, keyLineOf(k))
		}
	}
	return lines
}

func errNoNames() error {
	return fault.New(fault.Unavailable, "nothing is known of the domain name system here")
}

// wanted are the records that a domain should have, and those that it should not.
func (a *api) wanted(r *request) (site publish.Site, want, stale []publish.Record, err error) {
	if a.Names.Site == nil {
		return site, nil, nil, errNoNames()
	}
	d, err := a.domain(r)
	if err != nil {
		return site, nil, nil, err
	}
	of, err := publish.DomainOf(r.ctx, a.Directory, d.Name)
	if err != nil {
		return site, nil, nil, err
	}
	if site, err = a.Names.Site(r.ctx); err != nil {
		return site, nil, nil, err
	}
	return site, publish.Records(site, of), publish.Stale(of), nil
}

func (a *api) showDNS(r *request) error {
	_, want, _, err := a.wanted(r)
	if err != nil {
		return err
	}
	return sendAll(r, want)
}

func (a *api) diffDNS(r *request) error {
	_, want, stale, err := a.wanted(r)
	if err != nil {
		return err
	}
	return sendAll(r, publish.Compare(r.ctx, a.Names.Keeper.Resolver, want, stale))
}

func sendAll[T any](r *request, list []T) error {
	for _, v := range list {
		if err := r.send(v); err != nil {
			return err
		}
	}
	return nil
}

// withoutOptional leaves out optional records, but for those that take the place of one that
// was made before.
func withoutOptional(steps []publish.Step) []publish.Step {
	return slices.DeleteFunc(slices.Clone(steps), func(s publish.Step) bool {
		replaces := slices.ContainsFunc(steps, func(o publish.Step) bool {
			return o.Action == publish.Remove && o.Name == s.Name && o.Type == s.Type
		})
		return s.Need == publish.Optional && !replaces && (s.Action == publish.Add || s.Action == publish.Blocked)
	})
}

// applyDNS sends the plan, and does it unless it was to be dry.
func (a *api) applyDNS(r *request) error {
	var in struct {
		Dry bool `json:"dry_run"`
		All bool `json:"all"` // optional records, too
	}
	if err := r.read(&in); err != nil {
		return err
	}
	site, want, _, err := a.wanted(r)
	if err != nil {
		return err
	}
	d, err := a.domain(r)
	if err != nil {
		return err
	}
	k := a.Names.Keeper
	if k.Updater == nil {
		return fault.New(fault.Unavailable, "no zone can be changed from here; add a [[dns.update]] block to the configuration, or make the records by hand: martlet dns show "+d.Name)
	}
	if site.Unsure != nil {
		return fault.Wrap(fault.Unavailable, "the addresses of this server are not sure, so nothing is changed; set addresses of [dns] in the configuration, or try again", site.Unsure)
	}
	steps, err := k.Plan(r.ctx, d.Name, want)
	if err != nil {
		return err
	}
	if !in.All {
		steps = withoutOptional(steps)
	}
	if err := sendAll(r, steps); err != nil || in.Dry {
		return err
	}
	r.flush()
	return k.Apply(r.ctx, d.Name, steps)
}
