package postgres

import (
	"context"
	"errors"
	"regexp"

	"github.com/martlet-mail/martlet/internal/fault"
)

// HomeGroup is the name of the group that the configuration names.
const HomeGroup = "home"

// groupTables are those of several groups. All are made in each, and those of places are used
// at home only.
var groupTables = []string{
	`CREATE TABLE IF NOT EXISTS groups (id bigint PRIMARY KEY, name text NOT NULL, url text NOT NULL, state int NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS places (shard bigint PRIMARY KEY, place bigint NOT NULL, term bigint NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS moves (shard bigint PRIMARY KEY, source bigint NOT NULL, target bigint NOT NULL, step int NOT NULL, beat bigint NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS terms (shard bigint PRIMARY KEY, term bigint NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS journal (shard bigint, version bigint, n bigint, key bytea NOT NULL, upto bytea, PRIMARY KEY (shard, version, n))`,
}

// States of a group.
const (
	groupOpen = 0
	groupFull = 1 // takes no more accounts
)

var (
	stGroups   = &statement{"g_groups", "SELECT id, name, url, state FROM groups ORDER BY id"}
	stAddGroup = &statement{"g_add_group", "INSERT INTO groups (id, name, url, state) VALUES ($1::bigint, $2::text, $3::text, 0)"}
	stFull     = &statement{"g_full", "UPDATE groups SET state = $2::bigint WHERE id = $1::bigint"}
	stMeta     = &statement{"g_meta", "SELECT value FROM meta WHERE key = $1::text"}
	stSetMeta  = &statement{"g_set_meta", "INSERT INTO meta (key, value) VALUES ($1::text, $2::bytea) ON CONFLICT (key) DO UPDATE SET value = excluded.value"}
	stAddMeta  = &statement{"g_add_meta", "INSERT INTO meta (key, value) VALUES ($1::text, $2::bytea) ON CONFLICT (key) DO NOTHING"}
	stAnyShard = &statement{"g_any_shard", "SELECT 1::bigint FROM shards LIMIT 1"}
	stAnyBlob  = &statement{"g_any_blob", "SELECT 1::bigint FROM blobs LIMIT 1"}
)

// Group is a database of a cluster.
type Group struct {
	Number   int64
	Name     string
	URL      string // without a password; empty: that of the configuration
	Full     bool   // takes no new accounts
	Accounts int64  // that have their place there
	Size     int64  // bytes, about; 0: it does not say
	Down     string // why it cannot be reached; empty: it can
}

// loadGroups reads the list of groups, and opens those that are new. It opens no connection.
func (e *Engine) loadGroups(ctx context.Context) error {
	e.loading.Lock()
	defer e.loading.Unlock()
	read, err := e.ground(0).read(ctx, call{stGroups, nil})
	if err != nil {
		return err
	}
	have := e.all()
	list := append([]*member(nil), have...)
	for _, r := range read {
		id, name, url, full := number(r[0]), string(r[1]), string(r[2]), number(r[3]) == groupFull
		switch {
		case id < int64(len(have)):
			known := *have[id]
			known.full = full
			if known.full != have[id].full {
				list[id] = &known
			}
		case id == int64(len(list)):
			mark, err := e.markOf(ctx, id)
			if err != nil {
				return err
			}
			m, err := e.newMember(name, url, id)
			if err != nil {
				return err
			}
			m.pool.meant = isMarked(mark)
			m.full = full
			m.listen()
			list = append(list, m)
		default:
			return fault.New(fault.Corrupt, "the list of groups has a gap")
		}
	}
	for _, m := range list {
		m.most.Store(e.opt.CacheBytes / int64(len(list)))
	}
	e.router.mu.Lock()
	defer e.router.mu.Unlock()
	e.members = list
	return nil
}

var groupName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// withoutPassword is the address of a database as it may be shown.
func withoutPassword(url string) string {
	return passwordWord.ReplaceAllString(passwordInURL.ReplaceAllString(url, "$1@"), "")
}

var (
	passwordInURL = regexp.MustCompile(`^(\w+://[^:/@]*):[^@/]*@`)
	passwordWord  = regexp.MustCompile(`(?i)\s*\bpassword\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)&?`)
)

// AddGroup adds an empty database to the cluster: accounts that are new go there from now on,
// as long as it has the fewest, and blobs do by their names. It may be called again after a
// failure. Faults: Exists if the database or the name belongs to a group already, or if the
// database holds something; Invalid.
func (e *Engine) AddGroup(ctx context.Context, name, url string) (Group, error) {
	if err := e.gate.enter(); err != nil {
		return Group{}, err
	}
	defer e.gate.leave()
	if !groupName.MatchString(name) {
		return Group{}, fault.Newf(fault.Invalid, "%q is no name of a group: it is made of up to 63 small letters, digits and dashes", name)
	}
	cluster, err := e.cluster(ctx)
	if err != nil {
		return Group{}, err
	}
	if err := e.loadGroups(ctx); err != nil {
		return Group{}, err
	}
	for _, m := range e.all() {
		if m.name == name {
			return Group{}, fault.Newf(fault.Exists, "there is a group %q already; see martlet cluster groups", name)
		}
	}
	id := int64(len(e.all()))
	own, err := e.enlist(ctx, url, id, cluster)
	if err != nil {
		return Group{}, err
	}
	err = e.ground(0).tx(ctx, []call{{stGroups, nil}}, func(read rows) (calls []call, err error) {
		there := int64(len(read.of(0)))
		for _, r := range read.of(0) {
			if number(r[0]) == id && string(r[1]) == name && string(r[2]) == url {
				return nil, nil // it was done
			}
		}
		if there == 0 {
			calls = append(calls, call{stAddGroup, []any{int64(0), HomeGroup, ""}})
			there = 1
		}
		if there != id {
			return nil, fault.New(fault.Busy, "another group is being added; try again")
		}
		return append(calls, call{stAddGroup, []any{id, name, url}}, call{stSetMeta, []any{ownMarkOf(id), own}}), nil
	})
	if err != nil {
		return Group{}, err
	}
	if err := e.loadGroups(ctx); err != nil {
		return Group{}, err
	}
	return Group{Number: id, Name: name, URL: withoutPassword(url)}, nil
}

// Groups tells of all groups.
func (e *Engine) Groups(ctx context.Context) ([]Group, error) {
	if err := e.gate.enter(); err != nil {
		return nil, err
	}
	defer e.gate.leave()
	if err := e.loadGroups(ctx); err != nil {
		return nil, err
	}
	read, err := e.ground(0).read(ctx, call{stLoads, nil})
	if err != nil {
		return nil, err
	}
	accounts := map[int64]int64{}
	for _, r := range read {
		accounts[number(r[0])] = number(r[1])
	}
	var list []Group
	members := e.all()
	sizes := sizesOf(members)
	for i, m := range members {
		g := Group{Number: int64(i), Name: m.name, URL: withoutPassword(m.url), Full: m.full, Accounts: accounts[int64(i)], Size: sizes[i]}
		if why := m.pool.down.Load(); why != nil {
			g.Down = (*why).Error()
		}
		list = append(list, g)
	}
	return list, nil
}

// Door is how the database of a group is reached. URL may hold a password: it is there to connect
// by, and must not be shown.
type Door struct {
	Name, URL string
	Down      error // why this node cannot use the database now; nil: it can
	Other     bool  // because the address leads to another database than that of the group
}

// Doors returns those of all groups that this node knows, the home group's first. It asks nobody:
// so it tells of each group also while the home group, which has the list, is away.
func (e *Engine) Doors() (list []Door) {
	for _, m := range e.all() {
		d := Door{Name: m.name, URL: m.url}
		if m.url == "" { // the home group
			d.URL = e.opt.URL
		}
		if down := m.pool.down.Load(); down != nil {
			d.Down, d.Other = *down, errors.Is(*down, errOther)
		}
		list = append(list, d)
	}
	return list
}

// SetFull says whether a group takes new accounts. Where all are full, all do.
func (e *Engine) SetFull(ctx context.Context, name string, full bool) error {
	if err := e.gate.enter(); err != nil {
		return err
	}
	defer e.gate.leave()
	m, err := e.named(ctx, name)
	if err != nil {
		return err
	}
	state := int64(groupOpen)
	if full {
		state = groupFull
	}
	err = e.ground(0).tx(ctx, nil, func(rows) ([]call, error) { return []call{{stFull, []any{m.home, state}}}, nil })
	if err != nil {
		return err
	}
	return e.loadGroups(ctx)
}

func (e *Engine) named(ctx context.Context, name string) (*member, error) {
	if err := e.loadGroups(ctx); err != nil {
		return nil, err
	}
	for _, m := range e.all() {
		if m.name == name {
			return m, nil
		}
	}
	return nil, fault.Newf(fault.NotFound, "there is no group %q; see martlet cluster groups", name)
}
