package publish

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Keeper looks after the signing keys of domains. All but Updater must be given.
type Keeper struct {
	Directory *directory.Directory
	Resolver  Resolver
	Updater   *Updater      // nil: records are changed by hand
	Rotate    time.Duration // age at which keys are followed by others; 0: never
	Now       func() time.Time
}

// settled is how long keys must have been seen in the DNS before they sign by themselves: all
// servers of the zone have them then.
const settled = time.Hour

// Tend does what is due about the keys of a domain, and returns what it did in a sentence,
// "" if nothing. It is to be called every hour or so. Of a domain that signs nothing, keys
// that are gone are taken out of the DNS, and that is all.
func (k Keeper) Tend(ctx context.Context, domain string) (string, error) {
	keys, err := k.Directory.ExpireKeys(ctx, domain)
	if err != nil {
		return "", err
	}
	settings, err := k.Directory.Settings(ctx, domain)
	if err != nil {
		return "", err
	}
	next := inState(keys, directory.KeyNext)
	switch {
	case !settings.Sign && k.changes(domain):
		return "", errors.Join(k.Directory.KeysSeen(ctx, domain), k.publish(ctx, domain, keys, Remove))
	case !settings.Sign:
		return "", k.Directory.KeysSeen(ctx, domain)
	case len(next) > 0:
		return k.follow(ctx, domain, next)
	case k.due(keys) && k.changes(domain):
		if keys, err = k.Directory.NextKeys(ctx, domain); err != nil {
			return "", err
		}
		return "keys that will sign next are published", k.Publish(ctx, domain, keys)
	case k.changes(domain):
		return "", k.Publish(ctx, domain, keys)
	}
	return "", nil
}

// follow lets keys sign that have been in the DNS for a while.
func (k Keeper) follow(ctx context.Context, domain string, next []directory.SigningKey) (string, error) {
	missing, err := k.Missing(ctx, next)
	if err != nil {
		return "", err
	}
	var selectors []string
	for _, n := range next {
		if !slices.Contains(missing, DKIMName(n)) {
			selectors = append(selectors, n.Selector)
		}
	}
	if len(missing) > 0 {
		if err := k.Directory.KeysSeen(ctx, domain, selectors...); err != nil || !k.changes(domain) {
			return "", err
		}
		keys, err := k.Directory.Keys(ctx, domain)
		if err != nil {
			return "", err
		}
		return "", k.Publish(ctx, domain, keys)
	}
	ready := true
	for _, n := range next {
		ready = ready && !n.Published.IsZero() && k.Now().Sub(n.Published) >= settled
	}
	if !ready {
		return "", k.Directory.KeysSeen(ctx, domain, selectors...)
	}
	_, err = k.Directory.Activate(ctx, domain)
	return "from now on " + strings.Join(selectors, " and ") + " sign its mail", err
}

// due tells whether the keys that sign are old.
func (k Keeper) due(keys []directory.SigningKey) bool {
	active := inState(keys, directory.KeyActive)
	return k.Rotate > 0 && len(active) > 0 && slices.ContainsFunc(active, func(a directory.SigningKey) bool {
		return k.Now().Sub(a.Activated) >= k.Rotate
	})
}

// changes tells whether the records of a domain's keys can be changed from here.
func (k Keeper) changes(domain string) bool {
	if k.Updater == nil {
		return false
	}
	_, found := k.Updater.ZoneOf("_domainkey." + domain)
	return found
}

func inState(keys []directory.SigningKey, state directory.KeyState) []directory.SigningKey {
	return slices.DeleteFunc(slices.Clone(keys), func(k directory.SigningKey) bool { return k.State != state })
}

// Missing returns the names of keys that are not in the DNS as they should be.
func (k Keeper) Missing(ctx context.Context, keys []directory.SigningKey) (names []string, err error) {
	var want []Record
	for _, key := range keys {
		want = append(want, Record{DKIMName(key), "TXT", DKIMText(key), Must, ""})
	}
	for _, f := range Compare(ctx, k.Resolver, want, nil) {
		switch f.Status {
		case Same:
		case Unknown:
			return nil, fault.New(fault.Unavailable, f.Note)
		default:
			names = append(names, f.Name)
		}
	}
	return names, nil
}

// Publish has the records of a domain's keys made, and those of keys that are gone taken out.
// Other records are left alone. Faults: those of Plan and Apply; Exists if something that was
// not made here is in the way.
func (k Keeper) Publish(ctx context.Context, domain string, keys []directory.SigningKey) error {
	return k.publish(ctx, domain, keys, Add, Blocked, Remove)
}

// publish is Publish for steps of some kinds alone.
func (k Keeper) publish(ctx context.Context, domain string, keys []directory.SigningKey, kinds ...Action) error {
	settings, err := k.Directory.Settings(ctx, domain)
	if err != nil {
		return err
	}
	ours, err := k.made(ctx, domain)
	if err != nil {
		return err
	}
	isKey := func(r Record) bool { return strings.HasSuffix(r.Name, "._domainkey."+settings.Domain) }
	steps, err := Plan(ctx, k.Updater, dkim(Site{}, Domain{settings.Domain, settings, keys}), slices.DeleteFunc(slices.Clone(ours), func(r Record) bool { return !isKey(r) }))
	if err != nil {
		return err
	}
	steps = slices.DeleteFunc(steps, func(s Step) bool { return !slices.Contains(kinds, s.Action) })
	for _, s := range steps {
		if s.Action == Blocked {
			return fault.Newf(fault.Exists, "%s has a record that was not made here: %s", s.Name, strings.Join(s.Found, ", "))
		}
	}
	_, err = Apply(ctx, k.Updater, steps, ours, func(now []Record) error { return k.remember(ctx, domain, now) })
	return err
}

// made returns the records of a domain that were made here.
func (k Keeper) made(ctx context.Context, domain string) (ours []Record, err error) {
	stored, err := k.Directory.Published(ctx, domain)
	for _, r := range stored {
		ours = append(ours, Record{Name: r.Name, Type: r.Type, Value: r.Value})
	}
	return ours, err
}

func (k Keeper) remember(ctx context.Context, domain string, now []Record) error {
	var list []directory.DNSRecord
	for _, r := range now {
		list = append(list, directory.DNSRecord{Name: r.Name, Type: r.Type, Value: r.Value})
	}
	return k.Directory.SetPublished(ctx, domain, list)
}

// Plan says what is to be done so that a domain has all of want in the DNS. What cannot be
// changed from here is by hand only if the DNS does not have it.
func (k Keeper) Plan(ctx context.Context, domain string, want []Record) ([]Step, error) {
	ours, err := k.made(ctx, domain)
	if err != nil {
		return nil, err
	}
	steps, err := Plan(ctx, k.Updater, want, ours)
	for i, s := range steps {
		if s.Action == ByHand && holds(want, s.Record) && Compare(ctx, k.Resolver, []Record{s.Record}, nil)[0].Status == Same {
			steps[i].Action = Leave
		}
	}
	return steps, err
}

// Apply does it, and looks whether it is done.
func (k Keeper) Apply(ctx context.Context, domain string, steps []Step) error {
	ours, err := k.made(ctx, domain)
	if err != nil {
		return err
	}
	if _, err := Apply(ctx, k.Updater, steps, ours, func(now []Record) error { return k.remember(ctx, domain, now) }); err != nil {
		return err
	}
	return Check(ctx, k.Updater, steps)
}
