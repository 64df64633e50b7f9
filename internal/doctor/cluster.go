package doctor

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// Database is what a look at a database that nodes share has found.
type Database struct {
	Host     string // that answered
	Problem  string // why none did; "": one did
	ReadOnly bool   // it is a standby, and takes no writes
	Latency  time.Duration

	Foreign  bool   // it is of another make, which replicates in its own way
	Commit   string // synchronous_commit
	Names    string // synchronous_standby_names
	Standbys int    // that are connected
	InStep   int    // of these, whom commits wait for
	Hidden   bool   // who keeps step may not be seen

	Ahead, Slack time.Duration // its clock of ours, and how exactly that is known
}

// Node is one of the nodes that share a database.
type Node struct {
	Name    string
	State   string // up, draining, silent, stopped, unheard
	Version string
	Here    bool
}

// Cluster is what is looked at where several nodes share a store. What is nil is not looked
// at.
type Cluster struct {
	Database func(ctx context.Context, group string) Database // "": of the home group
	Groups   []string                                         // beside the home group: databases that accounts are spread over
	Objects  func(context.Context) error                      // writes, reads and removes an object; nil: there is no object store
	Nodes    func(context.Context) ([]Node, error)
}

// databaseCheck is a row about the database of a group; the home group's name is "".
type databaseCheck struct {
	name string
	run  func(*Doctor, context.Context, string) finding
}

// databaseChecks are those of each group, after those of the host.
var databaseChecks = []databaseCheck{
	{"database", (*Doctor).database},
	{"database-standby", (*Doctor).databaseStandby},
	{"database-clock", (*Doctor).databaseClock},
}

// clusterChecks are those of a node, after those of the databases.
var clusterChecks = []hostCheck{
	{"object-store", (*Doctor).objectStore},
	{"nodes", (*Doctor).nodes},
	{"node-versions", (*Doctor).nodeVersions},
}

// slowDatabase is what a round trip should not take: a delivery takes two.
const slowDatabase = 10 * time.Millisecond

// clusterTasks are the checks of what nodes share: a line per group and thing, the home group's
// under the bare name.
func (d *Doctor) clusterTasks() (all []task) {
	if d.Cluster == nil {
		return nil
	}
	for _, group := range slices.Concat([]string{""}, d.Cluster.Groups) {
		for _, c := range databaseChecks {
			name := strings.TrimSpace(c.name + " " + group)
			all = append(all, task{name, func(ctx context.Context) finding { return c.run(d, ctx, group) }})
		}
	}
	for _, c := range clusterChecks {
		all = append(all, task{c.name, func(ctx context.Context) finding { return c.run(d, ctx) }})
	}
	return all
}

// sight is what a group's database was seen like in this round.
type sight struct {
	once sync.Once
	seen Database
}

// shared asks once in a round.
func (d *Doctor) shared(ctx context.Context, group string) (Database, bool) {
	if d.Cluster.Database == nil {
		return Database{}, false
	}
	at, _ := d.sights.LoadOrStore(group, new(sight))
	s := at.(*sight)
	s.once.Do(func() { s.seen = d.Cluster.Database(ctx, group) })
	return s.seen, true
}

// groupWords are how a group's database is called, and what to correct where it is not reached.
func groupWords(group string) (database, mend string) {
	if group == "" {
		return "the database", "start the database, or correct url in [store]"
	}
	return "the database of group " + group, "start the database of group " + group + ", or lead the address that martlet cluster groups shows for it there"
}

func (d *Doctor) database(ctx context.Context, group string) finding {
	is, there := d.shared(ctx, group)
	database, mend := groupWords(group)
	primary := "name the primary in url of [store], or all hosts, of which the one that takes writes is chosen"
	if group != "" {
		primary = "have the address that martlet cluster groups shows for group " + group + " lead to the primary: pg_ctl promote, if there is none"
	}
	switch {
	case !there:
		return skip("there is no database")
	case is.Problem != "":
		return fail(mend, "%s cannot be used: %s", database, is.Problem)
	case is.ReadOnly:
		return fail(primary, "%s on %s is a standby, which takes no writes", database, is.Host)
	case is.Latency > slowDatabase:
		return warn("put nodes and database into one network", "%s on %s takes %s for a round trip, and a delivery makes two", database, is.Host, is.Latency.Round(100*time.Microsecond))
	}
	return ok("%s on %s answers in %s", database, is.Host, is.Latency.Round(10*time.Microsecond))
}

func (d *Doctor) databaseStandby(ctx context.Context, group string) finding {
	database, _ := groupWords(group)
	fix := "give " + database + " a standby, and set synchronous_commit = on and synchronous_standby_names = 'ANY 1 (*)' there"
	is, there := d.shared(ctx, group)
	names := strings.TrimSpace(is.Names)
	switch {
	case !there || is.Problem != "":
		return skip("%s was not seen", database)
	case is.Foreign:
		return skip("%s is not PostgreSQL, and replicates in its own way", database)
	case names == "":
		return warn(fix, "commits in %s wait for no standby: if its disk is lost, so is mail that was taken in", database)
	case is.Commit == "off" || is.Commit == "local":
		return warn(fix, "synchronous_commit of %s is %s: commits do not wait for the standby that there is", database, is.Commit)
	case is.InStep == 0 && !is.Hidden:
		return fail("start a standby of "+database+" (docs/cluster.md)", "no standby confirms commits in %s, which wait for one of %s (%d connected): nothing is taken in there, and nothing shown", database, names, is.Standbys)
	case is.Hidden:
		return skip("commits in %s wait for a standby of %s; whether one keeps step this user may not see (GRANT pg_read_all_stats)", database, names)
	}
	return ok("commits in %s wait for a standby, and %d of %d keep step", database, is.InStep, is.Standbys)
}

// clockApart is by how much clocks may differ before dates of mail look wrong. Nothing else
// depends on them.
const clockApart = 2 * time.Second

func (d *Doctor) databaseClock(ctx context.Context, group string) finding {
	is, there := d.shared(ctx, group)
	database, _ := groupWords(group)
	if !there || is.Problem != "" {
		return skip("%s was not seen", database)
	}
	if off := is.Ahead.Abs(); off > clockApart+is.Slack {
		word := "ahead of"
		if is.Ahead < 0 {
			word = "behind"
		}
		return warn("set both clocks by NTP: timedatectl set-ntp true", "the clock of %s is %s %s this machine's", database, off.Round(100*time.Millisecond), word)
	}
	return ok("the clock of %s agrees with this machine's", database)
}

func (d *Doctor) objectStore(ctx context.Context) finding {
	if d.Cluster.Objects == nil {
		return skip("bodies are kept in the database")
	}
	if err := d.Cluster.Objects(ctx); err != nil {
		return fail("start the object store, or correct [blobs]; the key must be allowed to put, get, list and delete", "%v", err)
	}
	return ok("an object was written, read, listed and removed")
}

// others are the nodes that have not said good-bye.
func (d *Doctor) others(ctx context.Context) ([]Node, finding) {
	if d.Cluster.Nodes == nil {
		return nil, skip("nodes are not known")
	}
	all, err := d.Cluster.Nodes(ctx)
	if err != nil {
		return nil, skip("the nodes cannot be asked for: %v", err)
	}
	return slices.DeleteFunc(slices.Clone(all), func(n Node) bool { return n.State == "stopped" }), finding{}
}

func (d *Doctor) nodes(ctx context.Context) finding {
	all, f := d.others(ctx)
	if f.why != "" {
		return f
	}
	var up int
	var silent, unheard []string
	for _, n := range all {
		switch n.State {
		case "silent":
			silent = append(silent, n.Name)
		case "unheard":
			unheard = append(unheard, n.Name)
		case "up":
			up++
		}
	}
	switch {
	case len(unheard) > 0:
		return skip("whether these run only a server knows that has listened for a while: %s", strings.Join(unheard, ", "))
	case len(silent) > 0:
		return warn("start it; if it is gone for good: martlet cluster forget "+silent[0], "not heard of: %s", strings.Join(silent, ", "))
	case len(all) == 1:
		return warn("start martlet serve on another machine, with the same [store] and [blobs]", "there is one node; if it ends, nobody is served")
	}
	return ok("%d of %d nodes are up", up, len(all))
}

func (d *Doctor) nodeVersions(ctx context.Context) finding {
	all, f := d.others(ctx)
	if f.why != "" {
		return f
	}
	var versions []string
	for _, n := range all {
		if !slices.Contains(versions, n.Version) {
			versions = append(versions, n.Version)
		}
	}
	if len(versions) > 1 {
		return warn("finish the upgrade, one node after the other", "nodes run different versions: %s; new forms of records wait for the last", strings.Join(versions, ", "))
	}
	return ok("all nodes run the same version")
}
