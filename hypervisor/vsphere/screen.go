package vsphere

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"net/url"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// mostScreen bounds the picture of a screen.
const mostScreen = 16 << 20

// Screenshot returns the machine's screen as a PNG. The server's screen service
// leaves nothing behind and is asked first. Where it does not answer, the server
// writes a picture beside the machine; that is fetched and deleted.
func (h *Host) Screenshot(ctx context.Context, machine string) ([]byte, error) {
	f, err := h.find(ctx, machine)
	if err != nil {
		return nil, err
	}
	if f.power() != hypervisor.PowerOn {
		return nil, &lifeboat.Problem{
			What: fmt.Sprintf("host %s: %s is not running and has no screen", h.o.Name, words(f.name())),
			Safe: "nothing was done", Next: "start it first", Err: hypervisor.ErrMachineGone,
		}
	}
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	u := *h.url
	u.Path, u.RawQuery = "/screen", url.Values{"id": {f.ref.Value}}.Encode()
	if picture, err := h.picture(ctx, &u); err == nil {
		return picture, nil
	}
	picture, err := h.writtenScreen(ctx, c, f)
	return picture, h.explain("look at the screen of "+words(f.name()), "the machine runs on", err)
}

// picture fetches a PNG, and believes that it is one only when it is.
func (h *Host) picture(ctx context.Context, u *url.URL) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fileTime)
	defer cancel()
	res, err := h.get(ctx, u, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", words(res.Status))
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, mostScreen+1))
	if err != nil {
		return nil, err
	}
	if len(data) > mostScreen {
		return nil, fmt.Errorf("the picture is larger than %d bytes", mostScreen)
	}
	if _, err := png.DecodeConfig(bytes.NewReader(data)); err != nil {
		return nil, fmt.Errorf("what the server sent is no picture: %w", err)
	}
	return data, nil
}

func (h *Host) writtenScreen(ctx context.Context, c *vim25.Client, f *found) ([]byte, error) {
	res, err := methods.CreateScreenshot_Task(ctx, c, &types.CreateScreenshot_Task{This: f.ref})
	if err != nil {
		return nil, err
	}
	info, err := h.wait(ctx, res.Returnval, taskTime)
	if err != nil {
		return nil, err
	}
	path, _ := info.Result.(string)
	if path == "" {
		return nil, errors.New("the server does not say where it put the picture")
	}
	u, err := h.datastoreURL(ctx, c, f, path)
	if err != nil {
		return nil, err
	}
	defer h.deleteFile(context.WithoutCancel(ctx), c, f, path)
	return h.picture(ctx, u)
}

// deleteFile removes a file that was made for us. One that stays is a nuisance
// and is said.
func (h *Host) deleteFile(ctx context.Context, c *vim25.Client, f *found, path string) {
	ctx, cancel := context.WithTimeout(ctx, logoutTime)
	defer cancel()
	dc, err := datacenterRef(ctx, c, f.ref)
	if err == nil && c.ServiceContent.FileManager != nil {
		var res *types.DeleteDatastoreFile_TaskResponse
		res, err = methods.DeleteDatastoreFile_Task(ctx, c, &types.DeleteDatastoreFile_Task{
			This: *c.ServiceContent.FileManager, Name: path, Datacenter: dc,
		})
		if err == nil {
			_, err = h.wait(ctx, res.Returnval, taskTime)
		}
	}
	if err != nil {
		h.o.Note(f.name(), "the picture "+words(path)+" stays on the datastore: "+words(err.Error()))
	}
}

// Console says where the machine's screen is: in the browser, on the server.
// There is no serial line.
func (h *Host) Console(ctx context.Context, machine string) (hypervisor.Console, error) {
	f, err := h.find(ctx, machine)
	if err != nil {
		return hypervisor.Console{}, err
	}
	c, err := h.client(ctx)
	if err != nil {
		return hypervisor.Console{}, err
	}
	u := url.URL{Scheme: "https", Host: h.url.Host}
	if !c.IsVC() {
		u.Path, u.Fragment = "/ui/", "/console/"+f.ref.Value
		return hypervisor.Console{URL: u.String()}, nil
	}
	u.Path = "/ui/webconsole.html"
	u.RawQuery = url.Values{
		"vmId": {f.ref.Value}, "vmName": {f.name()}, "serverGuid": {c.ServiceContent.About.InstanceUuid},
		"locale": {"en-US"}, "host": {h.url.Host},
	}.Encode()
	return hypervisor.Console{URL: u.String()}, nil
}

// NoRoot cannot tell: what a machine prints stays on the server. It is found out
// by the machine's health instead.
func (h *Host) NoRoot(context.Context, string) (string, error) { return "", nil }

// Settle has nothing to do: a machine that Define builds stands on the host's own
// storage from the beginning.
func (h *Host) Settle(ctx context.Context, machine string, progress func(done, total int64)) error {
	_, err := h.find(ctx, machine)
	return err
}

// OpenGateway answers that there is none: a private network on vSphere is a port
// group without an uplink, and what is in it is reached from the server's console
// alone.
func (h *Host) OpenGateway(context.Context, hypervisor.Segment) (hypervisor.Gateway, error) {
	return nil, &lifeboat.Problem{
		What: fmt.Sprintf("host %s: there is no way from here into a private network of vSphere", h.o.Name),
		Safe: "nothing was done",
		Next: "drill on a qemu or libvirt host (boot --host), or plug the machine into a port group without an uplink (--network network:NAME) and look at its console",
		Err:  hypervisor.ErrUnsupported,
	}
}

// Abilities: machines start from the host's own storage, on VMware's buses and
// cards. A guest that knows none of them most likely has AHCI.
func (h *Host) Abilities() hypervisor.Abilities {
	return hypervisor.Abilities{
		Buses: []lifeboat.Bus{
			lifeboat.BusSATA, lifeboat.BusPVSCSI, lifeboat.BusLSISAS, lifeboat.BusLSI, lifeboat.BusNVMe, lifeboat.BusIDE,
		},
		Cards: []string{"e1000e", "vmxnet3", "e1000"},
	}
}
