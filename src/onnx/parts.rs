//! Parts of images and zeros around them: `Slice`, `Split`, `Gather` and `Pad`.

use super::fold::AxisSlice;
use super::layout::{Activation, Along, CHANNELS_LAST, IMAGE, View};
use super::node::{NodeReader, place};
use super::operators::Network;
use crate::ann::layers::{Axis, Layer, Window};
use crate::base::Result;

/// Rows, columns and channels of a value that has each along a dimension of its own.
fn image_axes(node: &NodeReader<'_>, of: &Activation) -> Result<Vec<Along>> {
    let layouts = [&IMAGE[..], &CHANNELS_LAST, &[IMAGE[0], IMAGE[1], IMAGE[3]], &IMAGE[..2]];
    let found = layouts.into_iter().find(|axes| of.is(axes)).map(<[Along]>::to_vec);
    found.ok_or_else(|| node.wrong(format!("an input of {of}"), "batch, channels, rows, columns"))
}

impl Network {
    pub fn pad(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let of = node.activation(0)?;
        let rank = of.dims.len();
        let mode = node.text("mode", "constant")?;
        node.require(mode == "constant", format!("attribute `mode` `{mode}`"), "`constant`")?;
        let value = node.float_or_input("value", 2)?.unwrap_or_default();
        node.require(value == 0.0, format!("padding of {value}"), 0)?;
        let pads = node.ints_or_input("pads", 1)?.unwrap_or_default();
        let axes = match node.maybe_constant(3)? {
            None => (0..rank).collect(),
            Some(axes) => node.axes(axes.integers().unwrap_or_default(), rank)?,
        };
        let good =
            pads.len() == 2 * axes.len() && pads.iter().all(|pad| (0..1 << 31).contains(pad));
        node.require(good, format!("pads {pads:?}"), "two numbers of 0 or more for each axis")?;
        let (before, after) = pads.split_at(axes.len());
        let names = image_axes(node, of)?;
        let (mut padding, mut channels) = ([0; 4], [0; 2]);
        for ((&axis, &before), &after) in axes.iter().zip(before).zip(after) {
            let (before, after) = (before as usize, after as usize);
            match names[axis] {
                Some(Axis::Channels) => channels = [before, after],
                Some(Axis::Rows) => [padding[0], padding[2]] = [before, after],
                Some(Axis::Columns) => [padding[1], padding[3]] = [before, after],
                None => node.require(before + after == 0, "padding of the batch", "none")?,
            }
        }
        let mut of = of.clone();
        if padding != [0; 4] {
            of = self.uncut(node, of)?;
            let view = of.view.get_or_insert(View::ALL);
            view.padding.iter_mut().zip(padding).for_each(|(all, more)| *all += more);
            of.shape.height += padding[0] + padding[2];
            of.shape.width += padding[1] + padding[3];
        }
        if channels != [0; 2] {
            let [before, after] = channels;
            let count = before + of.shape.channels + after;
            node.take(&mut self.budget, &[count, 4])?;
            let own = self.channels(&of);
            let all = [vec![None; before], own, vec![None; after]].concat();
            of.view.get_or_insert(View::ALL).channels = Some(all);
            of.shape.channels = count;
        }
        Ok(Activation::new(of.value, of.shape, of.batch, &names).with_view(of.view))
    }

    /// Channel of the graph's value that each channel is.
    fn channels(&self, of: &Activation) -> Vec<Option<usize>> {
        let own = of.view.as_ref().and_then(|view| view.channels.clone());
        own.unwrap_or_else(|| (0..of.shape.channels).map(Some).collect())
    }

    /// The value, of which all rows and columns are there for zeros to be put around.
    fn uncut(&mut self, node: &NodeReader<'_>, of: Activation) -> Result<Activation> {
        match &of.view {
            Some(view) if (view.start, view.step) != ([0; 2], [1; 2]) || self.is_cut(&of) => {
                self.settled(node, &of)
            }
            _ => Ok(of),
        }
    }

    /// Whether rows or columns at the end are missing.
    fn is_cut(&self, of: &Activation) -> bool {
        let Some(view) = &of.view else { return false };
        let (own, [top, left, bottom, right]) = (self.shapes[of.value], view.padding);
        own.height + top + bottom != of.shape.height || own.width + left + right != of.shape.width
    }

    pub fn sliced(
        &mut self,
        node: &NodeReader<'_>,
        of: &Activation,
        slices: &[AxisSlice],
    ) -> Result<Activation> {
        let sizes = of.sizes();
        let all = slices.iter().zip(&sizes).all(|(slice, &size)| *slice == AxisSlice::all(size));
        if all {
            return Ok(of.clone());
        }
        let names = image_axes(node, of)?;
        let mut of = of.clone();
        let cuts = |axis: usize| slices[axis] != AxisSlice::all(sizes[axis]);
        for (dim, slice) in slices.iter().enumerate().filter(|(dim, _)| cuts(*dim)) {
            let found = format!("{} values of axis {dim} in steps of {}", slice.count, slice.step);
            let axis = match names[dim] {
                Some(Axis::Channels) => {
                    node.require(slice.count > 0, found, "1 or more")?;
                    node.take(&mut self.budget, &[slice.count, 4])?;
                    let own = self.channels(&of);
                    let chosen = (0..slice.count).map(|i| own[slice.place(i)]).collect();
                    of.view.get_or_insert(View::ALL).channels = Some(chosen);
                    of.shape.channels = slice.count;
                    continue;
                }
                Some(Axis::Rows) => 0,
                Some(Axis::Columns) => 1,
                None => return Err(node.wrong("a part of the batch", "all images")),
            };
            let good = slice.count > 0 && slice.step > 0;
            node.require(good, found, "1 or more, in steps above 0")?;
            if of.view.as_ref().is_some_and(|view| view.padding != [0; 4]) {
                of = self.settled(node, &of)?;
            }
            let view = of.view.get_or_insert(View::ALL);
            view.start[axis] += slice.start * view.step[axis];
            view.step[axis] = view.step[axis].saturating_mul(slice.step as usize);
            match axis {
                0 => of.shape.height = slice.count,
                _ => of.shape.width = slice.count,
            }
        }
        Ok(Activation::new(of.value, of.shape, of.batch, &names).with_view(of.view))
    }

    pub fn split(&mut self, node: &NodeReader<'_>) -> Result<Vec<Activation>> {
        let of = node.activation(0)?;
        let axis = node.axis(node.int("axis", 0)?, of.dims.len())?;
        node.int("num_outputs", 0)?;
        let (size, parts) = (of.sizes()[axis], node.node.outputs.len());
        let counts = match node.ints_or_input("split", 1)? {
            Some(counts) => {
                counts.iter().map(|&count| usize::try_from(count).unwrap_or(0)).collect()
            }
            // Equal parts, of which the last may be smaller.
            None => {
                let each = size.div_ceil(parts);
                (0..parts)
                    .map(|part| each.min(size.saturating_sub(part * each)))
                    .collect::<Vec<_>>()
            }
        };
        let sum = counts.iter().fold(0usize, |all, &count| all.saturating_add(count));
        let good = counts.len() == parts && sum == size;
        node.require(good, format!("parts of {counts:?}"), format!("{parts} that make {size}"))?;
        let mut start = 0;
        let mut outputs = Vec::with_capacity(parts);
        for count in counts {
            let mut slices: Vec<_> = of.sizes().into_iter().map(AxisSlice::all).collect();
            slices[axis] = AxisSlice { start, step: 1, count };
            start += count;
            outputs.push(self.sliced(node, of, &slices)?);
        }
        Ok(outputs)
    }

    /// Channels in another order, or some of them.
    pub fn gather(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let of = node.activation(0)?;
        let axis = node.axis(node.int("axis", 0)?, of.dims.len())?;
        let names = image_axes(node, of)?;
        let indices = node.constant(1)?;
        let size = of.shape.channels as i64;
        let good = names[axis] == Some(Axis::Channels) && indices.shape.len() == 1;
        node.require(good, format!("axis {axis} of {of}"), "a row of channels")?;
        let mut of = of.clone();
        node.take(&mut self.budget, &[indices.shape[0], 4])?;
        let own = self.channels(&of);
        let chosen = indices.integers().unwrap_or_default().iter();
        let chosen = chosen.map(|&index| if index < 0 { index + size } else { index });
        let chosen = chosen.map(|index| own.get(usize::try_from(index).ok()?).copied());
        let chosen: Option<Vec<_>> = chosen.collect();
        let chosen = chosen.filter(|chosen| !chosen.is_empty());
        let found = format!("indices {:?}", indices.values);
        let chosen =
            chosen.ok_or_else(|| node.wrong(found, format!("those of {size} channels")))?;
        of.shape.channels = chosen.len();
        of.view.get_or_insert(View::ALL).channels = Some(chosen);
        Ok(Activation::new(of.value, of.shape, of.batch, &names).with_view(of.view))
    }

    /// The value with its view, if it has one, as a convolution that picks what the view holds.
    pub fn settled(&mut self, node: &NodeReader<'_>, of: &Activation) -> Result<Activation> {
        let Some(view) = &of.view else {
            return Ok(of.clone());
        };
        let own = self.shapes[of.value];
        let sides = [(own.height, of.shape.height), (own.width, of.shape.width)];
        // The smallest window that holds what is taken, and takes no more steps than that.
        let size = [0, 1].map(|axis| {
            let ((side, count), start, step) = (sides[axis], view.start[axis], view.step[axis]);
            let pads = view.padding[axis] + view.padding[axis + 2];
            match (side + pads - start - 1) / step + 1 == count {
                true => start + 1,
                false => side + pads - (count - 1) * step,
            }
        });
        let window = Window { size, stride: view.step, padding: view.padding, ..Window::ONE };
        let (inputs, outputs) = (own.channels, of.shape.channels);
        let groups = if view.channels.is_none() { inputs } else { 1 };
        let shape = [outputs, inputs / groups, size[0], size[1]];
        let count = node.take(&mut self.budget, &shape)?;
        let mut weight = vec![0.0; count];
        let at = view.start[0] * size[1] + view.start[1];
        for output in 0..outputs {
            let input = match &view.channels {
                None => Some(0),
                Some(channels) => channels[output],
            };
            if let Some(input) = input {
                weight[(output * (inputs / groups) + input) * size[0] * size[1] + at] = 1.0;
            }
        }
        let layer = Layer::Conv { weight, bias: None, inputs, outputs, window, groups };
        let value = self.add(node, layer, &[of.value])?;
        self.notes.push(format!(
            "a part of {own} or zeros around it, before {}: a {} x {} convolution of stride {} x {}",
            place(node.node), size[0], size[1], view.step[0], view.step[1],
        ));
        Ok(of.moved(value, self.shapes[value]))
    }
}
