//go:build linux

// Package forgetful is a file system in memory for tests of power cuts: it knows what was
// synced, and at a cut forgets the rest, or all of it but a random share.
//
// Durable is what fsync and fdatasync of the file have made so: bytes, and the size with
// them. That a file has a name, another name, or none any more is durable by fsync of
// each directory concerned; nothing that POSIX does not promise is given for free, so a
// file that was synced is lost if its directory was not. sync_file_range promises nothing
// and does nothing.
//
// It runs in this process by FUSE, mounted by mount(2): that needs root and /dev/fuse. It
// knows no permissions, no links that are symbolic and no locks but those the kernel
// makes itself.
package forgetful

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Disk is one such file system, mounted or not.
type Disk struct {
	dir    string
	server *fuse.Server
	reaper *reaper

	mu    sync.Mutex
	tree  *tree
	lies  bool
	calls int64  // that changed something, since the start
	left  int64  // calls until the cut; 0: none is due
	off   bool   // the power is gone: nothing is changed or read any more
	cut   func() // what is done at that moment
	syncs int64
}

// New returns an empty disk, not yet mounted.
func New() *Disk { return &Disk{tree: newTree()} }

// Lie makes the disk say yes to every fsync and do nothing.
func (d *Disk) Lie() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lies = true
}

// Usable returns why no such disk can be mounted here, or nil.
func Usable() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("mounting needs root")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// Mount makes the disk seen in dir. Should this process end without Unmount, it is
// unmounted all the same.
func (d *Disk) Mount(dir string) error {
	server, err := fuse.NewServer(&calls{RawFileSystem: fuse.NewDefaultRawFileSystem(), Disk: d, lists: map[uint64][]fuse.DirEntry{}}, dir, &fuse.MountOptions{
		DirectMountStrict: true, FsName: "forgetful", Name: "forgetful", DisableXAttrs: true, DisableReadDirPlus: true, MaxWrite: 1 << 20,
	})
	if err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		return err
	}
	d.dir, d.server, d.reaper = dir, server, newReaper(dir)
	return nil
}

// Unmount takes the disk away from its folder. Nobody may have files open there.
func (d *Disk) Unmount() error {
	if d.server == nil {
		return nil
	}
	err := d.server.Unmount()
	if err != nil { // whoever is left must not keep the folder
		syscall.Unmount(d.dir, syscall.MNT_DETACH)
	}
	d.reaper.dismiss()
	d.server = nil
	return err
}

// CutAfter takes the power away before the nth call from now that changes the disk: fn is
// called, and from then on every call fails. fn must not call the disk.
func (d *Disk) CutAfter(n int64, fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.cut = n, fn
}

// CutNow does at once what CutAfter would have.
func (d *Disk) CutNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.powerOff()
}

func (d *Disk) powerOff() {
	if d.off {
		return
	}
	d.off, d.left = true, 0
	if d.cut != nil {
		d.cut()
	}
}

// PowerOn makes the disk forget and work again. share is that part of what was not synced
// which is found all the same. The disk must be unmounted, for the kernel remembers, too.
func (d *Disk) PowerOn(rng *rand.Rand, share float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tree.cut(rng, share)
	d.off, d.left, d.cut = false, 0, nil
}

// Counts returns how many calls there were that changed something, and how many syncs.
func (d *Disk) Counts() (changes, syncs int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls, d.syncs
}

// Unsynced returns how many bytes and changes of directories a cut would put at risk.
func (d *Disk) Unsynced() (bytes int64, changes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.tree.nodes {
		bytes += int64(len(n.dirty)) * page
	}
	return bytes, len(d.tree.pending)
}

// reaper is a process that unmounts a folder when this one has ended, however it has.
type reaper struct {
	cmd  *exec.Cmd
	hold *os.File
}

func newReaper(dir string) *reaper {
	r, w, err := os.Pipe()
	if err != nil {
		return nil
	}
	defer r.Close()
	cmd := exec.Command("sh", "-c", `read -r line || umount -l "$0"`, dir)
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if cmd.Start() != nil {
		w.Close()
		return nil
	}
	return &reaper{cmd, w}
}

func (r *reaper) dismiss() {
	if r == nil {
		return
	}
	fmt.Fprintln(r.hold)
	r.hold.Close()
	r.cmd.Wait()
}
