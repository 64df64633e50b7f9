//go:build linux

package forgetful

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// calls are the calls of the kernel.
type calls struct {
	fuse.RawFileSystem
	*Disk

	lists    map[uint64][]fuse.DirEntry // of the directories that are open
	lastList uint64
}

func (c *calls) String() string { return "forgetful" }

// forNode is how long the kernel may remember what it was told.
const forNode = time.Hour

// look finds a node for a call that reads.
func (c *calls) look(id uint64) (*node, fuse.Status) {
	if c.off {
		return nil, fuse.EIO
	}
	n := c.tree.nodes[id]
	if n == nil {
		return nil, fuse.Status(syscall.ESTALE)
	}
	return n, fuse.OK
}

// change finds a node for a call that changes the disk, before which the power may go.
func (c *calls) change(id uint64) (*node, fuse.Status) {
	c.calls++
	if c.left > 0 {
		if c.left--; c.left == 0 {
			c.powerOff()
		}
	}
	return c.look(id)
}

func (n *node) attr(out *fuse.Attr) {
	out.Ino, out.Nlink, out.Blksize = n.id, 1, page
	out.Mode = n.mode
	out.Size = uint64(len(n.data))
	out.Blocks = (out.Size + sector - 1) / sector
}

func (n *node) entry(out *fuse.EntryOut) {
	out.NodeId = n.id
	out.SetEntryTimeout(forNode)
	out.SetAttrTimeout(forNode)
	n.attr(&out.Attr)
}

func (c *calls) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, status := c.look(h.NodeId)
	if status != fuse.OK {
		return status
	}
	n := d.names[name]
	if n == nil {
		return fuse.ENOENT
	}
	n.entry(out)
	return fuse.OK
}

func (c *calls) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, status := c.look(in.NodeId)
	if status == fuse.OK {
		out.SetTimeout(forNode)
		n.attr(&out.Attr)
	}
	return status
}

func (c *calls) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, status := c.change(in.NodeId)
	if status != fuse.OK {
		return status
	}
	if size, ok := in.GetSize(); ok {
		n.resize(int64(size))
	}
	if mode, ok := in.GetMode(); ok {
		n.mode = n.mode&syscall.S_IFMT | mode&0o7777
	}
	out.SetTimeout(forNode)
	n.attr(&out.Attr)
	return fuse.OK
}

func (c *calls) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.OK }

// make makes a node with a name; its mode says of which type.
func (c *calls) make(in *fuse.InHeader, name string, mode uint32) (*node, fuse.Status) {
	d, status := c.change(in.NodeId)
	switch {
	case status != fuse.OK:
		return nil, status
	case d.names[name] != nil:
		return nil, fuse.Status(syscall.EEXIST)
	}
	n := c.tree.add(mode)
	c.tree.apply(change{{d, name, n}})
	return n, fuse.OK
}

func (c *calls) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, status := c.make(&in.InHeader, name, syscall.S_IFDIR|in.Mode&0o7777)
	if status == fuse.OK {
		n.entry(out)
	}
	return status
}

// Mknod makes sockets.
func (c *calls) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, status := c.make(&in.InHeader, name, in.Mode)
	if status == fuse.OK {
		n.entry(out)
	}
	return status
}

func (c *calls) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, status := c.make(&in.InHeader, name, syscall.S_IFREG|in.Mode&0o7777)
	if status == fuse.OK {
		n.entry(&out.EntryOut)
	}
	return status
}

func (c *calls) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, status := c.change(in.NodeId)
	if status != fuse.OK {
		return status
	}
	n, status := c.look(in.Oldnodeid)
	switch {
	case status != fuse.OK:
		return status
	case d.names[name] != nil:
		return fuse.Status(syscall.EEXIST)
	}
	c.tree.apply(change{{d, name, n}})
	n.entry(out)
	return fuse.OK
}

func (c *calls) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return c.remove(h, name, false)
}

func (c *calls) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return c.remove(h, name, true)
}

// remove takes a name away. The node stays for whoever has it open.
func (c *calls) remove(h *fuse.InHeader, name string, dir bool) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, status := c.change(h.NodeId)
	if status != fuse.OK {
		return status
	}
	switch n := d.names[name]; {
	case n == nil:
		return fuse.ENOENT
	case dir && len(n.names) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	c.tree.apply(change{{d, name, nil}})
	return fuse.OK
}

func (c *calls) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	from, status := c.change(in.NodeId)
	if status != fuse.OK {
		return status
	}
	to, status := c.look(in.Newdir)
	if status != fuse.OK {
		return status
	}
	n := from.names[oldName]
	switch {
	case n == nil:
		return fuse.ENOENT
	case in.Flags&unix.RENAME_NOREPLACE != 0 && to.names[newName] != nil:
		return fuse.Status(syscall.EEXIST)
	case in.Flags&^unix.RENAME_NOREPLACE != 0:
		return fuse.EINVAL
	}
	c.tree.apply(change{{from, oldName, nil}, {to, newName, n}})
	return fuse.OK
}

func (c *calls) Open(_ <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, status := c.look(in.NodeId)
	return status
}

func (c *calls) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, status := c.look(in.NodeId)
	if status != fuse.OK {
		return nil, status
	}
	count := 0
	if in.Offset < uint64(len(n.data)) {
		count = copy(buf, n.data[in.Offset:])
	}
	return fuse.ReadResultData(buf[:count]), fuse.OK
}

func (c *calls) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, status := c.change(in.NodeId)
	if status != fuse.OK {
		return 0, status
	}
	n.write(data, int64(in.Offset))
	return uint32(len(data)), fuse.OK
}

func (c *calls) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, status := c.change(in.NodeId)
	switch {
	case status != fuse.OK:
		return status
	case in.Mode == unix.FALLOC_FL_KEEP_SIZE:
		return fuse.OK
	case in.Mode != 0:
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	if end := int64(in.Offset + in.Length); end > int64(len(n.data)) {
		n.resize(end)
	}
	return fuse.OK
}

func (c *calls) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Fsync is fdatasync, too: that may leave out times, and there are none.
func (c *calls) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, status := c.change(in.NodeId)
	if status == fuse.OK && !c.lies {
		c.syncs++
		n.sync()
	}
	return status
}

func (c *calls) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, status := c.change(in.NodeId)
	if status == fuse.OK && !c.lies {
		c.syncs++
		c.tree.syncDir(n)
	}
	return status
}

// OpenDir keeps the names as they are, for a directory is read by several calls.
func (c *calls) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, status := c.look(in.NodeId)
	if status != fuse.OK {
		return status
	}
	var list []fuse.DirEntry
	for i, name := range sorted(d.names) {
		var attr fuse.Attr
		d.names[name].attr(&attr)
		list = append(list, fuse.DirEntry{Mode: attr.Mode, Name: name, Ino: attr.Ino, Off: uint64(i) + 1})
	}
	c.lastList++
	c.lists[c.lastList] = list
	out.Fh = c.lastList
	return fuse.OK
}

func (c *calls) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.lists[in.Fh]
	for in.Offset < uint64(len(list)) && out.AddDirEntry(list[in.Offset]) {
		in.Offset++
	}
	return fuse.OK
}

func (c *calls) ReleaseDir(in *fuse.ReleaseIn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lists, in.Fh)
}

// StatFs tells of more space than any test fills.
func (c *calls) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = page, page, 255
	out.Blocks, out.Bfree, out.Bavail = 1<<24, 1<<23, 1<<23
	out.Files, out.Ffree = 1<<20, 1<<19
	return fuse.OK
}
