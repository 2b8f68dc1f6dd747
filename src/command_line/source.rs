//! A network and its images, as the command line names them.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use evospike::Error;
use evospike::ann::networks::{
    FashionCnn, Mlp, MnistCnn, ResNet20, ResNet20Cifar100, Vgg15, Vgg15Cifar100, Vgg15HalfBn,
    Vgg15HalfBnCifar100, Vgg15HalfBnTinyImageNet, Vgg15QuarterBn, Vgg15QuarterBnCifar100, Vgg16,
};
use evospike::data::{
    Cifar10, Cifar100, FolderSettings, Normalisation, Task, TinyImageNet, TrainTest,
};
use evospike::prelude::*;
use evospike::ranks;

/// Files of a data set.
#[derive(Args)]
pub(crate) struct DataArguments {
    /// Folder or archive of the data set, or the start of the names of EMNIST's files; not given
    /// for the embedded digits
    #[arg(long)]
    data: Option<PathBuf>,
    /// Format of the data set
    #[arg(long, default_value = "auto")]
    format: Format,
    /// Largest number of files to leave out of a folder of images because they cannot be read
    #[arg(long, default_value_t = 0)]
    skip: usize,
    /// Largest number of folders of classes, in each part, that are empty
    #[arg(long, default_value_t = 0)]
    empty_classes: usize,
}

/// Images, and those of them that are held out.
#[derive(Args)]
pub(crate) struct ImageArguments {
    #[command(flatten)]
    pub(crate) files: DataArguments,
    /// Seed of the initial weights and of the division and order of the images
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Share of the training images to hold out
    #[arg(long, default_value_t = 0.1)]
    held_out: f64,
    /// File that lists the training images to hold out: one index into the data set per line
    #[arg(long, conflicts_with = "held_out")]
    held_out_list: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Net {
    /// Six layers of neurons, for the embedded digits
    Digits,
    /// Two layers of neurons, fully connected, for the embedded digits
    Mlp,
    /// Five layers of neurons, for the embedded pictures of clothes
    Fashion,
    /// For the MNIST family
    MnistCnn,
    /// For CIFAR-10 or CIFAR-100, without batch normalisation
    Vgg15,
    /// For CIFAR-10, CIFAR-100 or Tiny-ImageNet
    Vgg15HalfBn,
    /// For CIFAR-10 or CIFAR-100
    Vgg15QuarterBn,
    /// For CIFAR-10 or CIFAR-100
    Resnet20,
    /// For ImageNet
    Vgg16,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// Detected from the names of the files
    Auto,
    /// CIFAR-10 as published, binary or Python version
    Cifar10,
    /// CIFAR-100 as published, binary or Python version
    Cifar100,
    /// Tiny-ImageNet-200, unpacked
    TinyImagenet,
    /// The files of the MNIST family
    Idx,
    /// train/CLASS/* and test/CLASS/*, JPEG or PNG
    Folder,
}

/// Format of the data set in a folder, or of an archive.
pub(crate) fn find_format(data: &Path) -> evospike::Result<Format> {
    let marks = [
        ("cifar-10-batches-bin", Format::Cifar10),
        ("cifar-10-batches-py", Format::Cifar10),
        ("cifar-10-binary.tar.gz", Format::Cifar10),
        ("cifar-10-python.tar.gz", Format::Cifar10),
        ("data_batch_1.bin", Format::Cifar10),
        ("data_batch_1", Format::Cifar10),
        ("cifar-100-binary", Format::Cifar100),
        ("cifar-100-python", Format::Cifar100),
        ("cifar-100-binary.tar.gz", Format::Cifar100),
        ("cifar-100-python.tar.gz", Format::Cifar100),
        ("train.bin", Format::Cifar100),
        ("tiny-imagenet-200", Format::TinyImagenet),
        ("wnids.txt", Format::TinyImagenet),
        ("train-images-idx3-ubyte", Format::Idx),
        ("train-images-idx3-ubyte.gz", Format::Idx),
        ("train-images.idx3-ubyte", Format::Idx),
        ("train-images.idx3-ubyte.gz", Format::Idx),
        ("train", Format::Folder),
    ];
    let found = marks.iter().find(|&&(name, format)| {
        let mut longer = data.as_os_str().to_owned();
        longer.push(format!("-{name}"));
        let emnist = format == Format::Idx && Path::new(&longer).exists();
        emnist || data.join(name).exists() || data.ends_with(name) && data.is_file()
    });
    if let Some((_, format)) = found {
        return Ok(*format);
    }
    // One that is missing gives its own error.
    std::fs::metadata(data).map_err(|source| Error::Io { path: data.into(), source })?;
    Err(Error::Data {
        file: data.display().to_string(),
        place: "files".into(),
        found: "no data set known here".into(),
        expected: marks.map(|(name, _)| format!("`{name}`")).join(" or ")
            + " (with a folder of images for each class)",
    })
}

pub(crate) fn wrong(name: &'static str, found: impl ToString, expected: impl ToString) -> Error {
    Error::Parameter { name, found: found.to_string(), expected: expected.to_string() }
}

/// The network with the weights of a file, under its own names of the layers or PyTorch's of VGG15.
pub(crate) fn load_weights<N: Network>(file: &Path) -> evospike::Result<Ann<N>> {
    let own = Ann::load(file, &Names::own());
    match &own {
        Err(Error::Data { .. }) => Ann::load(file, &Names::vgg15_bn()).or(own),
        _ => own,
    }
}

/// The network with the weights of a file, which must not have been trained on images held out here.
pub(crate) fn load_trained<N: Network>(
    file: &Path,
    parts: &Split<N::Task>,
) -> evospike::Result<Ann<N>> {
    // Without a checkpoint of this version it is not known.
    let same = Resume::at(beside(file, ".checkpoint")).trained_on(&parts.training);
    if same.is_ok_and(|same| same == Some(false)) {
        let expected = "weights trained with the same images held out, by --seed and --held-out \
                        or by --held-out-list";
        return Err(wrong("model", file.display(), expected));
    }
    load_weights(file)
}

/// Path of a file beside another one, with a longer name.
pub(crate) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Work on a network of any type and its images.
pub(crate) trait Work {
    fn on<N: Network>(&self, parts: &Split<N::Task>) -> evospike::Result<()>;
}

impl ImageArguments {
    /// Works on a network and its images.
    pub(crate) fn open(&self, net: Net, work: &impl Work) -> evospike::Result<()> {
        self.check()?;
        match net {
            Net::Digits => self.on_digits::<DigitsCnn>(work),
            Net::Mlp => self.on_digits::<Mlp>(work),
            Net::Fashion => {
                self.embedded()?;
                work.on::<FashionCnn>(&self.split(&data::fashion()?)?)
            }
            Net::MnistCnn => {
                let files = &self.files;
                let data = match files.format()? {
                    Format::Idx => data::idx(files.data()?),
                    Format::Folder => files.folder(),
                    _ => Err(files.refuse("idx or folder")),
                };
                self.on::<MnistCnn>(work, data?, &Normalisation::MNIST)
            }
            Net::Vgg15 => self.on_cifar::<Vgg15, Vgg15Cifar100>(work),
            Net::Vgg15HalfBn if self.files.format()? == Format::TinyImagenet => {
                work.on::<Vgg15HalfBnTinyImageNet>(&self.split(&self.files.tiny_imagenet()?)?)
            }
            Net::Vgg15HalfBn => self.on_cifar::<Vgg15HalfBn, Vgg15HalfBnCifar100>(work),
            Net::Vgg15QuarterBn => self.on_cifar::<Vgg15QuarterBn, Vgg15QuarterBnCifar100>(work),
            Net::Resnet20 => self.on_cifar::<ResNet20, ResNet20Cifar100>(work),
            Net::Vgg16 if self.files.format()? == Format::Folder => {
                self.on::<Vgg16>(work, self.files.folder()?, &Normalisation::IMAGENET)
            }
            Net::Vgg16 => Err(self.files.refuse("folder")),
        }
    }

    /// Works on the network for 10 or for 100 classes, whichever the data has.
    fn on_cifar<A: Network<Task = Cifar10>, B: Network<Task = Cifar100>>(
        &self,
        work: &impl Work,
    ) -> evospike::Result<()> {
        match self.files.cifar()? {
            Cifar::Ten(data) => work.on::<A>(&self.split(&data)?),
            Cifar::Hundred(data) => work.on::<B>(&self.split(&data)?),
        }
    }

    fn on_digits<N: Network<Task = Digits>>(&self, work: &impl Work) -> evospike::Result<()> {
        work.on::<N>(&self.digits()?)
    }

    fn on<N: Network>(
        &self,
        work: &impl Work,
        data: TrainTest<N::Task>,
        normalisation: &Normalisation,
    ) -> evospike::Result<()> {
        work.on::<N>(&self.split(&data.normalised(normalisation)?)?)
    }

    pub(crate) fn check(&self) -> evospike::Result<()> {
        match self.held_out > 0.0 && self.held_out < 1.0 {
            true => Ok(()),
            false => Err(wrong("held_out", self.held_out, "above 0, less than 1")),
        }
    }

    /// Parts of the embedded digits.
    pub(crate) fn digits(&self) -> evospike::Result<Split<Digits>> {
        self.embedded()?;
        let shares = Shares { held_out: self.held_out, ..Shares::default() };
        data::digits()?.split(shares, self.seed)
    }

    /// Parts of a data set.
    pub(crate) fn split<K: Task>(&self, data: &TrainTest<K>) -> evospike::Result<Split<K>> {
        match &self.held_out_list {
            Some(list) => data.hold_out_listed(list, self.seed),
            None => data.hold_out(self.held_out, self.seed),
        }
    }

    /// Returns an error if files are given for images that are embedded.
    fn embedded(&self) -> evospike::Result<()> {
        self.files.check_folder(Format::Auto)?;
        let files = [("data", &self.files.data), ("held_out_list", &self.held_out_list)];
        match files.into_iter().find_map(|(name, file)| Some((name, file.as_ref()?))) {
            Some((name, file)) => Err(wrong(name, file.display(), "none: the images are embedded")),
            None => Ok(()),
        }
    }
}

/// Data set of CIFAR-10 or of CIFAR-100, normalised.
pub(crate) enum Cifar {
    Ten(TrainTest<Cifar10>),
    Hundred(TrainTest<Cifar100>),
}

impl DataArguments {
    /// The one of both that the files are.
    pub(crate) fn cifar(&self) -> evospike::Result<Cifar> {
        let (path, format) = (self.data()?, self.format()?);
        let in_folders = || std::fs::read_dir(path.join("train")).map_or(0, Iterator::count);
        let (hundred, folder) = match format {
            Format::Cifar10 => (false, false),
            Format::Cifar100 => (true, false),
            Format::Folder => (in_folders() >= Cifar100::CLASSES, true),
            Format::TinyImagenet | Format::Idx | Format::Auto => {
                return Err(self.refuse("cifar10, cifar100 or folder"));
            }
        };
        Ok(if hundred {
            let data = if folder { self.folder()? } else { data::cifar100(path)? };
            Cifar::Hundred(data.normalised(&Normalisation::CIFAR100)?)
        } else {
            let data = if folder { self.folder()? } else { data::cifar10(path)? };
            Cifar::Ten(data.normalised(&Normalisation::CIFAR10)?)
        })
    }

    /// Tiny-ImageNet, normalised.
    pub(crate) fn tiny_imagenet(&self) -> evospike::Result<TrainTest<TinyImageNet>> {
        data::tiny_imagenet(self.data()?)?.normalised(&Normalisation::TINY_IMAGENET)
    }

    /// Images in folders; says which files were left out.
    pub(crate) fn folder<K: Task>(&self) -> evospike::Result<TrainTest<K>> {
        let (skip, empty_classes) = (self.skip, self.empty_classes);
        let settings = FolderSettings { skip, empty_classes, ..FolderSettings::default() };
        let (images, skipped) = data::folder_with(self.data()?, &settings)?;
        if !skipped.is_empty() && ranks::leads() {
            println!("{} images left out:", skipped.len());
            skipped.iter().for_each(|error| println!("  {error}"));
        }
        Ok(images)
    }

    pub(crate) fn data(&self) -> evospike::Result<&Path> {
        let data = self.data.as_deref();
        data.ok_or_else(|| wrong("data", "none", "the folder of a data set"))
    }

    /// Returns an error if there are arguments for folders of images, and the format is another.
    fn check_folder(&self, format: Format) -> evospike::Result<()> {
        let given = [("skip", self.skip), ("empty-classes", self.empty_classes)];
        match given.into_iter().find(|&(_, most)| most > 0 && format != Format::Folder) {
            None => Ok(()),
            Some((name, most)) => {
                Err(wrong(name, most, "0, as the images are not in files of their own"))
            }
        }
    }

    /// Format given by the user or found in the folder.
    pub(crate) fn format(&self) -> evospike::Result<Format> {
        let format = match self.format {
            Format::Auto => find_format(self.data()?)?,
            format => format,
        };
        self.check_folder(format)?;
        Ok(format)
    }

    pub(crate) fn refuse(&self, formats: &str) -> Error {
        let format = self.format().ok();
        let format = format.and_then(|format| format.to_possible_value());
        let found = format.map_or_else(String::new, |format| format.get_name().into());
        wrong("format", found, format!("{formats} for this network"))
    }
}
