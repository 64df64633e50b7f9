package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func wellCluster() *Cluster {
	return &Cluster{
		Database: func(context.Context, string) Database {
			return Database{Host: "10.0.0.1:5432", Latency: time.Millisecond, Commit: "on", Names: "ANY 1 (*)", Standbys: 1, InStep: 1}
		},
		Objects: func(context.Context) error { return nil },
		Nodes: func(context.Context) ([]Node, error) {
			return []Node{{Name: "mx1", State: "up", Version: "2", Here: true}, {Name: "mx2", State: "up", Version: "2"}, {Name: "old", State: "stopped", Version: "1"}}, nil
		},
	}
}

// A cluster in good order is all green, and each thing that is wrong with one is named.
func TestCluster(t *testing.T) {
	w := newWorld(t)
	w.Cluster = wellCluster()
	found := w.examine(t)
	if got := notOK(found); len(got) != 1 || !strings.Contains(got[0], "dns-update") {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	database := func(change func(*Database)) func(*Cluster) {
		return func(c *Cluster) {
			is := c.Database(t.Context(), "")
			change(&is)
			c.Database = func(context.Context, string) Database { return is }
		}
	}
	nodes := func(list ...Node) func(*Cluster) {
		return func(c *Cluster) { c.Nodes = func(context.Context) ([]Node, error) { return list, nil } }
	}
	for _, c := range []struct {
		check  string
		status Status
		fix    string
		harm   func(*Cluster)
	}{
		{"database", Fail, "url in [store]", database(func(d *Database) { d.Problem = "connection refused" })},
		{"database-standby", Skipped, "", database(func(d *Database) { d.Problem = "connection refused" })},
		{"database-clock", Skipped, "", database(func(d *Database) { d.Problem = "connection refused" })},
		{"database", Fail, "the primary", database(func(d *Database) { d.ReadOnly = true })},
		{"database", Warn, "one network", database(func(d *Database) { d.Latency = 40 * time.Millisecond })},
		{"database-standby", Warn, "ANY 1 (*)", database(func(d *Database) { d.Names, d.InStep, d.Standbys = "", 0, 0 })},
		{"database-standby", Warn, "synchronous_commit = on", database(func(d *Database) { d.Commit = "local" })},
		{"database-standby", Fail, "start a standby", database(func(d *Database) { d.InStep = 0 })},
		{"database-standby", Skipped, "", database(func(d *Database) { d.InStep, d.Hidden = 0, true })},
		{"database-standby", Skipped, "", database(func(d *Database) { d.Foreign = true })},
		{"database-clock", Warn, "NTP", database(func(d *Database) { d.Ahead = -time.Minute })},
		{"object-store", Fail, "put, get, list and delete", func(c *Cluster) { c.Objects = func(context.Context) error { return errors.New("access denied") } }},
		{"object-store", Skipped, "", func(c *Cluster) { c.Objects = nil }},
		{"nodes", Warn, "martlet cluster forget mx2", nodes(Node{Name: "mx1", State: "up"}, Node{Name: "mx2", State: "silent"})},
		{"nodes", Skipped, "", nodes(Node{Name: "mx1", State: "unheard"}, Node{Name: "mx2", State: "unheard"})},
		{"nodes", Warn, "another machine", nodes(Node{Name: "mx1", State: "up"})},
		{"nodes", Skipped, "", func(c *Cluster) {
			c.Nodes = func(context.Context) ([]Node, error) { return nil, errors.New("away") }
		}},
		{"node-versions", Warn, "finish the upgrade", nodes(Node{Name: "mx1", State: "up", Version: "1"}, Node{Name: "mx2", State: "up", Version: "2"})},
	} {
		w.Cluster = wellCluster()
		c.harm(w.Cluster)
		d := New(Options{Cluster: w.Cluster})
		tasks := d.clusterTasks()
		i := slices.IndexFunc(tasks, func(h task) bool { return h.name == c.check })
		if f := tasks[i].run(t.Context()); f.status != c.status || !strings.Contains(f.fix, c.fix) {
			t.Errorf("%s should be %s with %q: %+v", c.check, c.status, c.fix, f)
		}
	}
}

// Each group has lines of its own, which name it, and what is wrong with one is not said of
// another.
func TestClusterGroups(t *testing.T) {
	for _, c := range []struct {
		check  string
		status Status
		why    string
		fix    string
		harm   func(*Database)
	}{
		{"database second", Fail, "group second cannot be used: connection refused", "start the database of group second", func(d *Database) { d.Problem = "connection refused" }},
		{"database second", Fail, "group second", "for group second lead to the primary", func(d *Database) { d.ReadOnly = true }},
		{"database second", Warn, "group second", "one network", func(d *Database) { d.Latency = 40 * time.Millisecond }},
		{"database-standby second", Warn, "group second", "group second a standby", func(d *Database) { d.Names, d.InStep = "", 0 }},
		{"database-standby second", Fail, "group second", "a standby of the database of group second", func(d *Database) { d.InStep = 0 }},
		{"database-clock second", Warn, "group second", "NTP", func(d *Database) { d.Ahead = time.Minute }},
	} {
		all := wellCluster()
		well := all.Database(t.Context(), "")
		all.Groups = []string{"second", "third"}
		all.Database = func(_ context.Context, group string) Database {
			is := well
			if group == "second" {
				c.harm(&is)
			}
			return is
		}
		var names []string
		for _, task := range New(Options{Cluster: all}).clusterTasks() {
			names = append(names, task.name)
			f := task.run(t.Context())
			switch {
			case task.name == c.check:
				if f.status != c.status || !strings.Contains(f.why, c.why) || !strings.Contains(f.fix, c.fix) {
					t.Errorf("%s should be %s with %q and %q: %+v", c.check, c.status, c.why, c.fix, f)
				}
			case f.status != OK && !(f.status == Skipped && strings.HasSuffix(task.name, " second")):
				t.Errorf("%s, where %s is harmed: %+v", task.name, c.check, f)
			}
		}
		if got := strings.Join(names[:9], ", "); got != "database, database-standby, database-clock, database second, database-standby second, database-clock second, database third, database-standby third, database-clock third" {
			t.Error(got)
		}
	}
}

// Where the store does not answer that is said, and not that there is nothing in it.
func TestUnreadDomains(t *testing.T) {
	f := New(Options{Unread: errors.New("the store does not answer")}).domains(t.Context())
	if f.status != Fail || !strings.Contains(f.why, "does not answer") || strings.Contains(f.fix, "domain add") {
		t.Errorf("%+v", f)
	}
}
