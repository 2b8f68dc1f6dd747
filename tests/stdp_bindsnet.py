"""Has BindsNET run the rule of src/stdp.rs and writes tests/data/stdp_bindsnet.json.

    pip install bindsnet==0.3.4
    python tests/stdp_bindsnet.py

Six inputs, four neurons, two images of 30 timesteps; everything after every timestep. Once all
neurons that reach their threshold spike, which is BindsNET's code as it is, and once only one does.
BindsNET draws that one at random: here its draw gives the neuron furthest above its threshold.
"""

import json
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import torch
from bindsnet.learning import PostPre
from bindsnet.network import Network
from bindsnet.network.nodes import DiehlAndCookNodes, Input
from bindsnet.network.topology import Connection

INPUTS, NEURONS, IMAGES, TIMESTEPS = 6, 4, 2, 30
SETTINGS = dict(
    neurons=NEURONS, epochs=1, timesteps=TIMESTEPS, rate=1.0, seed=0,
    threshold=1.5, tau_membrane=10.0, refractory=2, theta_plus=0.25, tau_theta=50.0,
    inhibition=0.75, tau_trace=5.0, nu_pre=0.09, nu_post=0.2, weight_sum=3.0,
)


class Neurons(DiehlAndCookNodes):
    """Notes how far each neuron is above its threshold, which BindsNET forgets when it resets."""

    def forward(self, x):
        takes_input = (self.refrac_count <= 0).float()
        self.above = self.v * self.decay + takes_input * x
        self.above = self.above - (self.thresh + self.theta * self.theta_decay)
        furthest = lambda reached, _: self.above.masked_fill(reached == 0, -1).argmax(1, keepdim=True)
        with mock.patch("torch.multinomial", furthest):
            super().forward(x)


def case(one_spike, seed):
    draw = torch.Generator().manual_seed(seed)
    of = dict(SETTINGS, one_spike=one_spike)
    weights = torch.randint(1, 16, (INPUTS, NEURONS), generator=draw) / 16
    images = (torch.rand(IMAGES, TIMESTEPS, INPUTS, generator=draw) < 0.4).byte()

    network = Network(dt=1.0)
    pre = Input(n=INPUTS, traces=True, tc_trace=of["tau_trace"])
    post = Neurons(
        n=NEURONS, traces=True, tc_trace=of["tau_trace"], rest=0.0, reset=0.0,
        thresh=of["threshold"], refrac=of["refractory"], tc_decay=of["tau_membrane"],
        theta_plus=of["theta_plus"], tc_theta_decay=of["tau_theta"], one_spike=one_spike,
    )
    forward = Connection(
        pre, post, w=weights.clone(), update_rule=PostPre, nu=(of["nu_pre"], of["nu_post"]),
        wmin=0.0, wmax=1.0, norm=of["weight_sum"],
    )
    lateral = Connection(post, post, w=of["inhibition"] * (torch.eye(NEURONS) - 1))
    network.add_layer(pre, "pre")
    network.add_layer(post, "post")
    network.add_connection(forward, "pre", "post")
    network.add_connection(lateral, "post", "post")

    steps, nearest, together, bounds = [], 1.0, 0, set()

    class Record:
        def record(self):
            nonlocal nearest, together
            nearest = min(nearest, post.above.abs().min().item())
            together += (post.above >= 0).sum().item() > 1
            bounds.update(w for w in (0.0, 1.0) if (forward.w == w).any())
            numbers = lambda tensor: [float(f"{x:.7g}") for x in tensor.flatten().tolist()]
            steps.append(dict(
                input=pre.s.flatten().nonzero().flatten().tolist(),
                spikes=post.s.flatten().nonzero().flatten().tolist(),
                potential=numbers(post.v), theta=numbers(post.theta),
                pre=numbers(pre.x), post=numbers(post.x), weights=numbers(forward.w),
            ))

        def reset_state_variables(self):
            pass

    network.add_monitor(Record(), "all")
    forward.normalize()
    for image in images:
        network.reset_state_variables()
        network.run({"pre": image}, time=TIMESTEPS, one_step=True)
    # The case is worth a test: nothing is decided by rounding, and everything happens.
    assert nearest > 1e-4, nearest
    assert together >= 5 and bounds == {0.0, 1.0}, (together, bounds)
    return dict(settings=of, weights=weights.flatten().tolist(), steps=steps)


cases = [case(one_spike=False, seed=0), case(one_spike=True, seed=1)]
file = Path(__file__).parent / "data" / "stdp_bindsnet.json"
lines = lambda steps: ",\n".join(json.dumps(step, separators=(",", ":")) for step in steps)
texts = [
    f'{{"settings":{json.dumps(of["settings"])},\n"weights":{of["weights"]},\n"steps":[\n{lines(of["steps"])}]}}'
    for of in cases
]
head = f'{{"bindsnet":"{version("bindsnet")}","cases":[\n'
file.write_text(head + ",\n".join(texts) + "]}\n")
