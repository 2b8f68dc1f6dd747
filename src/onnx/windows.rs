//! Nodes that move a window over images: convolutions and pooling.

use super::fold::reduced;
use super::layout::{Activation, Along, IMAGE};
use super::node::NodeReader;
use super::operators::Network;
use crate::ann::layers::{Axis, Layer, Window};
use crate::base::Result;

impl Network {
    /// Size, stride, dilation and padding of the windows that a node has on an image.
    fn window(
        &self,
        node: &NodeReader<'_>,
        of: &Activation,
        kernel: Option<&[usize]>,
    ) -> Result<Window> {
        let spatial = of.dims.len().saturating_sub(2);
        let image = of.is(&IMAGE) || of.is(&[IMAGE[0], IMAGE[1], IMAGE[3]]) && of.shape.height == 1;
        node.require(image, format!("an input of {of}"), "batch, channels, rows, columns")?;
        let numbers = |name: &'static str, count: usize, least: i64| {
            let Some(all) = node.ints(name)? else {
                return Ok(None);
            };
            let good = all.len() == count && all.iter().all(|&x| (least..1 << 31).contains(&x));
            let expected = format!("{count} whole numbers of {least} or more");
            node.require(good, format!("attribute `{name}` {all:?}"), expected)?;
            Ok(Some(all.iter().map(|&x| x as usize).collect::<Vec<_>>()))
        };
        let own = numbers("kernel_shape", spatial, 1)?;
        let size = match (own, kernel) {
            (Some(own), Some(kernel)) if own != kernel => {
                let expected = format!("{kernel:?} as the weights have");
                return Err(node.wrong(format!("attribute `kernel_shape` {own:?}"), expected));
            }
            (Some(own), _) => own,
            (None, Some(kernel)) => kernel.to_vec(),
            (None, None) => return Err(node.wrong("no attribute `kernel_shape`", "one")),
        };
        let stride = numbers("strides", spatial, 1)?.unwrap_or(vec![1; spatial]);
        let dilation = numbers("dilations", spatial, 1)?.unwrap_or(vec![1; spatial]);
        let pads = numbers("pads", 2 * spatial, 0)?.unwrap_or(vec![0; 2 * spatial]);
        let automatic = node.text("auto_pad", "NOTSET")?;
        // Of one-dimensional values, columns alone.
        let both = |all: &[usize], fill: usize| match *all {
            [rows, columns] => [rows, columns],
            _ => [fill, all[0]],
        };
        let (size, stride, dilation) = (both(&size, 1), both(&stride, 1), both(&dilation, 1));
        let (before, after) = pads.split_at(spatial);
        let [[top, left], [bottom, right]] = [both(before, 0), both(after, 0)];
        let mut padding = [top, left, bottom, right];
        match automatic {
            "NOTSET" | "" => (),
            "VALID" => padding = [0; 4],
            "SAME_UPPER" | "SAME_LOWER" => {
                let sides = [of.shape.height, of.shape.width];
                for axis in 0..2 {
                    let reach = (size[axis] - 1).saturating_mul(dilation[axis]).saturating_add(1);
                    let steps = (sides[axis].div_ceil(stride[axis]) - 1) * stride[axis];
                    let all = steps.saturating_add(reach).saturating_sub(sides[axis]);
                    let (less, more) = (all / 2, all - all / 2);
                    let upper = automatic == "SAME_UPPER";
                    padding[axis] = if upper { less } else { more };
                    padding[axis + 2] = if upper { more } else { less };
                }
            }
            other => {
                let expected = "`NOTSET`, `SAME_UPPER`, `SAME_LOWER` or `VALID`";
                return Err(node.wrong(format!("attribute `auto_pad` `{other}`"), expected));
            }
        }
        Ok(Window { size, stride, dilation, padding })
    }

    /// The value with its view a layer of its own, unless the view only adds zeros around the image,
    /// which are returned for a window to add.
    fn padded(
        &mut self,
        node: &NodeReader<'_>,
        of: &Activation,
    ) -> Result<(Activation, [usize; 4])> {
        match &of.view {
            Some(view) if view.only_pads() => {
                let padding = view.padding;
                Ok((of.moved(of.value, self.shapes[of.value]), padding))
            }
            _ => Ok((self.settled(node, of)?, [0; 4])),
        }
    }

    pub fn conv(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let of = node.activation(0)?;
        let (weight, bias) = (node.constant(1)?, node.maybe_constant(2)?);
        let rank = of.dims.len();
        let found = format!("weights of shape {:?} for an input of {of}", weight.shape);
        node.require(
            weight.shape.len() == rank && (3..5).contains(&rank),
            found,
            "as many axes, 3 or 4",
        )?;
        let mut window = self.window(node, of, Some(&weight.shape[2..]))?;
        let groups = node.int("group", 1)?;
        let found = format!("attribute `group` {groups}");
        let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0);
        let groups = groups.ok_or_else(|| node.wrong(found, "1 or more"))?;
        let (of, padding) = self.padded(node, of)?;
        window.padding.iter_mut().zip(padding).for_each(|(all, more)| *all += more);
        node.take(&mut self.budget, &weight.shape)?;
        let layer = Layer::Conv {
            weight: weight.floats(),
            bias: bias.map(|bias| bias.floats()),
            inputs: weight.shape[1].saturating_mul(groups),
            outputs: weight.shape[0],
            window,
            groups,
        };
        let value = self.add(node, layer, &[of.value])?;
        Ok(Activation::new(value, self.shapes[value], of.batch, &axes_of(rank)))
    }

    pub fn pool(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let of = node.activation(0)?;
        let mut window = self.window(node, of, None)?;
        let ceil = node.int("ceil_mode", 0)? != 0;
        let average = node.node.operator == "AveragePool";
        let mut count_padding = average && node.int("count_include_pad", 0)? != 0;
        if !average {
            node.only("storage_order", 0)?;
        }
        // Zeros of `Pad` are values, which a largest value of 0 or more is not less for.
        let joins = match average {
            true => count_padding || window.padding == [0; 4],
            false => self.positive[of.value],
        };
        let (of, padding) = match joins {
            true => self.padded(node, of)?,
            false => (self.settled(node, of)?, [0; 4]),
        };
        window.padding.iter_mut().zip(padding).for_each(|(all, more)| *all += more);
        count_padding |= average && padding != [0; 4];
        let layer = match average {
            true => Layer::AvgPool { window, ceil, count_padding },
            false => Layer::MaxPool { window, ceil },
        };
        let value = self.add(node, layer, &[of.value])?;
        Ok(Activation::new(value, self.shapes[value], of.batch, &axes_of(of.dims.len())))
    }

    /// Pooling of whole rows, columns or images.
    pub fn reduce(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let of = self.settled(node, node.activation(0)?)?;
        let rank = of.dims.len();
        let (axes, keep) = match node.node.operator.starts_with("Global") {
            true => ((2..rank).collect(), true),
            false => {
                let keep = node.int("keepdims", 1)? != 0;
                let Some(axes) = reduced(node, rank)? else {
                    return Ok(of);
                };
                (axes, keep)
            }
        };
        let gone: Vec<Along> =
            axes.iter().flat_map(|&axis| of.dims[axis].iter().copied()).collect();
        let good = gone.iter().all(|axis| matches!(axis, Some(Axis::Rows | Axis::Columns)));
        node.require(good, format!("axes {axes:?} of {of}"), "rows, columns or both")?;
        let size = [Axis::Rows, Axis::Columns].map(|axis| match gone.contains(&Some(axis)) {
            true => of.size_of(Some(axis)),
            false => 1,
        });
        let window = Window { size, stride: size, ..Window::ONE };
        let layer = match node.node.operator {
            "GlobalMaxPool" | "ReduceMax" => Layer::MaxPool { window, ceil: false },
            _ => Layer::AvgPool { window, ceil: false, count_padding: false },
        };
        let mut pooled = match size {
            [1, 1] => of,
            _ => self.then(node, layer, &of)?,
        };
        if !keep {
            let left = (0..rank).filter(|axis| !axes.contains(axis));
            pooled.dims = left.map(|axis| pooled.dims[axis].clone()).collect();
        }
        Ok(pooled)
    }
}

fn axes_of(rank: usize) -> Vec<Along> {
    match rank {
        3 => vec![IMAGE[0], IMAGE[1], IMAGE[3]],
        _ => IMAGE.to_vec(),
    }
}
